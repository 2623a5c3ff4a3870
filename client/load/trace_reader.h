// Reads recorded traffic. Lengths become made-up tokens, the same for the same seed;
// conversations are sent as they are, but for the model's own replies.
//
//   mooncake  JSON lines: timestamp (ms), input_length, output_length, hash_ids of blocks of 512
//             tokens; the same id is the same tokens
//   azure     CSV: TIMESTAMP, ContextTokens, GeneratedTokens
//   burstgpt  CSV: Timestamp (s), Request tokens, Response tokens and, where there is one,
//             Session ID; requests of a session begin alike
//   sharegpt  JSON: a list of {"conversations": [{"from", "value"}]}, or one a line
//   messages  JSON: {"messages": [{"role", "content"}]}, {"conversation": …}, {"body":
//   {"messages"}}
//             or bare lists of messages; one a line, or a list of them. "timestamp" (s) where given
//
// Threading  one thread at a time.
// Errors     a malformed line (an element, of a list) is skipped and named, or refused with
//            kInvalidArgument; kNotFound: no such file; kInvalidArgument: over 1 GiB or max_rows, a
//            CSV without a column, nothing usable.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/load/workload.h"

namespace reprise::client::load {

enum class TraceFormat { kMooncake, kAzure, kBurstGpt, kShareGpt, kMessages };

absl::StatusOr<TraceFormat> ParseTraceFormat(absl::string_view name);
const std::vector<std::string>& TraceFormatNames();

struct TraceOptions {
  TraceFormat format = TraceFormat::kMooncake;
  bool refuse_malformed = false;
  int32_t context_length = 0;   // the model's; longer prompts are cut
  int32_t vocabulary_size = 0;  // the model's
  uint64_t seed = 1;
  double length_scale = 1;              // of tokens in traces of lengths
  int32_t default_output_tokens = 128;  // of messages whose reply was not recorded
  std::string name = "trace";           // what errors call it
  int64_t max_rows = 10'000'000;        // of traces of lengths, each of which takes 100 bytes
};

// What a trace held. `malformed` names the first 20 of them.
struct TraceFacts {
  int64_t requests = 0;
  int64_t sessions = 0;
  int64_t malformed_count = 0;
  std::vector<std::string> malformed;
  int64_t clipped = 0;  // prompts or replies cut to the window
  bool timed = false;   // every session has its time
  double mean_turns = 1;
  bool needs_chat_format = false;
};

class TraceSource : public SessionSource {
 public:
  const TraceFacts& facts() const { return facts_; }
  double mean_turns() const override { return facts_.mean_turns; }

 protected:
  TraceFacts facts_;
};

absl::StatusOr<std::unique_ptr<TraceSource>> ParseTrace(absl::string_view text,
                                                        const TraceOptions& options);
absl::StatusOr<std::unique_ptr<TraceSource>> ReadTrace(const std::string& path,
                                                       TraceOptions options);

}  // namespace reprise::client::load
