// What a caller asks the engine for and what it gets back. Plain values.
//
// Units  durations are absl::Duration on the monotonic clock; counts are tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/ids.h"
#include "core/engine/prompt_lookup.h"
#include "core/model/sampling.h"

namespace reprise {

// Where candidates for reuse come from.
enum class RetrievalMode {
  kPrefix,    // token-exact prefix index only
  kSemantic,  // candidates only from the vector index, then verified token by token
  kHybrid,    // prefix index; the vector index explains
};

enum class CachePolicy {
  kUse,       // reuse what is predicted to be faster; cache the result
  kForce,     // reuse all that matches even if slower; cache the result
  kBypass,    // neither look up nor cache
  kReadOnly,  // reuse as kUse, cache nothing
};

enum class FinishReason {
  kStop,           // the model ended the text (EOS or a stop id)
  kStopSequence,   // a stop sequence matched
  kMaxTokens,      // max_output_tokens were produced
  kContextLength,  // the model has no further position (GenerateRequest::ends_at_context)
};

// What was done about reuse, and why; one value explains one request.
enum class ReuseDecision {
  kReused,      // all usable tokens of the best match
  kPartial,     // fewer than matched: see reason
  kRecomputed,  // matched, but not used: see reason
  kMiss,        // nothing matched: see MissReason
  kBypassed,    // the caller or the configuration said so
};

enum class ReuseReason {
  kNone,
  kFasterToLoad,       // predicted load + remainder beats recompute
  kForced,             // CachePolicy::kForce
  kSlowerToLoad,       // predicted recompute beats load
  kBelowMinimumDepth,  // fewer tokens than minimum_reuse_tokens
  kLoadFailed,         // the store refused or failed; recomputed
  kPolicyBypass,
  kFullPrefixRequired,  // SEMANTIC: the candidate is not a full prefix of the prompt
  kComputedInFlight,    // another request was computing it; this one waited and shares it
  kFasterToSplit,       // computed from the front while it was loaded from the back
};

enum class MissReason {
  kNone,         // there was no miss
  kCacheEmpty,   // nothing cached in this namespace
  kDiverges,     // the nearest cached prompt differs at first_divergent_position
  kNoCandidate,  // the vector index offered nothing (SEMANTIC)
  kTooShort,     // at least one prompt token must be computed, and there is only one
  kEvicted,      // this prompt's or the candidate's KV is in no tier any more
  kBypassed,
  kEmbeddingFailed,  // SEMANTIC: no embedding could be made
};

struct GenerateRequest {
  std::string request_id;  // for logs; the caller's or the server's
  std::string tenant;      // from the authenticated identity
  std::vector<TokenId> prompt;
  std::string prompt_text;  // what the sentence embedding is made of
  SamplingOptions sampling;
  int32_t max_output_tokens = 0;  // 0: prefill only
  bool ends_at_context = false;   // max_output_tokens is all that the context leaves, not asked for
  bool ignore_eos = false;
  std::vector<TokenId> stop_ids;  // end the reply, in addition to EOS
  std::vector<std::string> stop_sequences;
  std::optional<PromptLookupOptions> speculation;  // none: plain decoding, to the same tokens
  CachePolicy cache_policy = CachePolicy::kUse;
  bool writes_at_once = false;  // to the store, whatever EngineOptions::write_selectively says
  int32_t minimum_reuse_tokens = 0;
  std::optional<RetrievalMode> retrieval_mode;  // default: EngineOptions
  std::optional<absl::Duration> deadline;       // on Clock::Monotonic
  absl::Duration received;                      // Clock::Monotonic at handler entry
  absl::Duration tokenize_time;                 // spent before Submit
};

// Of a finished request cached + computed = prompt. One that ended early has in both
// only what was really reused and computed until then: nothing before its first step.
struct Usage {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;    // reused
  int32_t computed_tokens = 0;  // each position once, also when a preemption computed it twice
  int32_t output_tokens = 0;
  int32_t draft_tokens = 0;     // speculation: verified by the model
  int32_t accepted_tokens = 0;  // of these, in the reply
};

// Of a request that ended early, the part it was in lasts until its end and the later
// ones are zero.
struct Timings {
  absl::Duration queue;  // Submit to first lookup
  absl::Duration tokenize;
  absl::Duration lookup;               // SEMANTIC: embedding and vector search included
  absl::Duration load;                 // waiting for tiers, as far as it was exposed
  absl::Duration prefill;              // first prompt step to first token
  absl::Duration time_to_first_token;  // from `received`
  absl::Duration decode;               // first to last token
  absl::Duration total;                // from `received`
  absl::Duration shared_wait;          // for a prefix that another request was computing
};

// The nearest cached prompt by sentence embedding.
//
// SEMANTIC replies always look for it. HYBRID ones never wait for an embedding, nor
// share the processor with one: a prompt that is cached itself is its own candidate,
// with similarity 1; others are embedded once their reply is out, and Explain finds
// their nearest.
struct Candidate {
  uint64_t prompt_id = 0;
  float similarity = 0.0f;
  int32_t common_tokens = 0;                        // shared prefix with the request
  std::optional<int32_t> first_divergent_position;  // none: one is a prefix of the other
};

struct Reuse {
  RetrievalMode mode = RetrievalMode::kHybrid;
  bool decided = false;  // false: the request ended before its lookup; only mode and exact count
  ReuseDecision decision = ReuseDecision::kMiss;
  ReuseReason reason = ReuseReason::kNone;
  MissReason miss_reason = MissReason::kNone;
  int32_t device_tokens = 0;     // reused from device memory (GPU runners)
  int32_t host_tokens = 0;       // from host memory (CPU runners: the block pool)
  int32_t disk_tokens = 0;       // from the store
  int32_t in_flight_tokens = 0;  // of host_tokens: another request computed or loaded them while
                                 // this one waited
  int32_t ideal_tokens = 0;  // longest cached prefix of the prompt in any tier, at most prompt - 1
  int32_t split_tokens = 0;  // computed while those after them were loaded
  bool candidate_computed = false;  // looked for by the end of the reply: see Candidate
  std::optional<Candidate> candidate;
  absl::Duration predicted_load;
  absl::Duration predicted_prefill;       // of what remained to compute
  absl::Duration predicted_cold_prefill;  // of the whole prompt
  absl::Duration predicted_total;         // load and prefill; less than their sum in a split
  absl::Duration actual_load;             // whole load, overlapped part included
  absl::Duration entry_age;               // since the deepest reused KV was computed; 0: none was
  absl::Duration regret;                  // lost against what was predicted to be slower
  int64_t disk_bytes_read = 0;
  std::string disk_codec;  // PayloadCodecName of what was loaded; empty: nothing was
  bool exact = true;       // false: the numerics probe failed and the operator allowed it
};

struct TokenChunk {
  std::vector<TokenId> ids;
  std::string text;  // whole UTF-8 characters; may be empty
};

struct GenerateResult {
  std::vector<TokenId> output_ids;
  std::string text;
  FinishReason finish_reason = FinishReason::kStop;
  std::string matched_stop;  // the stop sequence, for kStopSequence
  uint64_t seed = 0;         // the seed that was used
  Usage usage;
  Timings timings;
  Reuse reuse;
};

// Where a request's output goes. The engine thread calls both and must not be
// held up: they only enqueue. `on_done` is called exactly once, last; on an
// error the result still carries usage, timings and reuse so far.
struct GenerationSink {
  std::function<void(TokenChunk)> on_chunk;
  std::function<void(absl::Status, GenerateResult)> on_done;
};

}  // namespace reprise
