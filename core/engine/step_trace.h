// StepTrace: what one step of the engine did and where its time went.
#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace reprise {

struct StepTrace {
  absl::Duration start;          // on Clock::Monotonic
  int64_t sequences = 0;         // in the batch
  int64_t prefill_tokens = 0;    // prompt rows
  int64_t decode_tokens = 0;     // rows of decoding sequences, drafts included
  int64_t preempted = 0;         // sequences, before the batch was made
  int64_t queued_requests = 0;   // after admission
  int64_t free_blocks = 0;       // once the batch has its blocks
  int64_t available_blocks = 0;  // free, or held by the cache alone
  absl::Duration schedule_time;  // plan, preemption, batch and drafts
  absl::Duration runner_time;    // of ModelRunner::Step: the kernels
};

}  // namespace reprise
