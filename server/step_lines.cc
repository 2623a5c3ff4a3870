#include "server/step_lines.h"

namespace reprise::server {

LogFields ToLogFields(const StepTrace& trace) {
  return {{"start_seconds", absl::ToDoubleSeconds(trace.start)},
          {"sequences", trace.sequences},
          {"prefill_tokens", trace.prefill_tokens},
          {"decode_tokens", trace.decode_tokens},
          {"preempted", trace.preempted},
          {"queued_requests", trace.queued_requests},
          {"free_blocks", trace.free_blocks},
          {"available_blocks", trace.available_blocks},
          {"schedule_seconds", absl::ToDoubleSeconds(trace.schedule_time)},
          {"runner_seconds", absl::ToDoubleSeconds(trace.runner_time)}};
}

}  // namespace reprise::server
