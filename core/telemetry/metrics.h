// Metrics: what the server counts, as verbs. All names, labels, help texts and
// buckets are in metrics.cc.
//
// Threading  every method is safe from any thread and does not block.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/telemetry/process_usage.h"

namespace reprise {

// One RPC however it ended. The request log line and the counters are both made
// from this one value, so they always agree.
struct RequestSummary {
  std::string request_id;
  std::string method;  // "Generate"
  std::string tenant;
  std::string code;  // "OK", "INVALID_ARGUMENT"
  std::string finish_reason;
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;
  int32_t computed_tokens = 0;
  int32_t output_tokens = 0;
  int32_t draft_tokens = 0;     // speculation: verified by the model
  int32_t accepted_tokens = 0;  // of these, in the reply
  int32_t ideal_tokens = 0;
  int32_t device_tokens = 0;
  int32_t host_tokens = 0;
  int32_t disk_tokens = 0;
  int32_t in_flight_tokens = 0;  // of host_tokens
  int32_t split_tokens = 0;      // of computed_tokens
  int64_t disk_bytes_read = 0;
  std::string retrieval_mode;  // "PREFIX", "SEMANTIC", "HYBRID"; empty for RPCs without reuse
  std::string decision;        // enum names of the reply; empty: ended before it was decided
  std::string reason;
  std::string miss_reason;
  absl::Duration queue, tokenize, lookup, shared_wait, load, prefill, time_to_first_token, decode;
  absl::Duration total;  // of the RPC: what a slow reader of a stream took is in it
  absl::Duration predicted_load, predicted_prefill, predicted_cold_prefill, actual_load;
  absl::Duration predicted_total;  // of load and prefill
  absl::Duration entry_age;        // of the deepest reused entry; counted when there was one
  absl::Duration regret;           // lost against what was predicted to be slower
  std::string candidate_status;    // "FOUND", "NONE", "NOT_COMPUTED"; what follows is for FOUND
  std::string candidate_id;        // decimal
  double candidate_similarity = 0.0;
  int32_t candidate_common_tokens = 0;
  std::string numerics_id;
  bool exact = true;
};

// Fixed facts of this process, exported as reprise_build_info and reprise_model_info.
struct ServerFacts {
  std::string version;
  std::string model;
  std::string numerics_id;
  std::string identity;  // hex
};

// State of the moment, set by the engine thread.
struct EngineGauges {
  int64_t queued_requests = 0;
  int64_t running_sequences = 0;
  int64_t pool_blocks = 0;
  int64_t used_blocks = 0;    // referenced by sequences or the cache
  int64_t cached_blocks = 0;  // indexed
  int64_t block_bytes = 0;
  int64_t pending_write_segments = 0;
  int64_t vectors = 0;
};

struct StoreGauges {
  bool enabled = false;
  int64_t segments = 0;
  int64_t payload_bytes = 0;
  int64_t disk_bytes = 0;
  int64_t buffer_bytes = 0;  // memory
  int64_t limit_bytes = 0;   // that disk_bytes is kept below
  int64_t free_bytes = 0;    // of the disk, for an unprivileged process
};

// What a cache namespace holds and may hold; a quota of 0 is none.
struct NamespaceGauges {
  std::string name;
  int64_t host_bytes = 0;
  int64_t host_quota_bytes = 0;
  int64_t disk_bytes = 0;
  int64_t disk_quota_bytes = 0;
};

// Memory that is taken at start and kept.
struct ResidentMemory {
  int64_t weight_bytes = 0;   // the model's, as packed
  int64_t encoder_bytes = 0;  // the sentence encoder's weights
};

// What the store failed at; kLoadStalled: a load took longer than its budget, and its request
// computed.
enum class StoreFailure { kOpen, kRead, kWrite, kDelete, kList, kLoadStalled };

// Why a segment was not written: computing it is as fast as loading it; too much waits to be
// written; its KV was gone when its turn came; it did not fit below the disk limit.
enum class WriteSkip { kNoBenefit, kQueueFull, kEvicted, kNoRoom };

// Where what a preempted sequence had computed comes from when it resumes: from the cache,
// as far as it is not evicted, or from computing it again.
enum class Preemption { kCache, kRecompute };

// What became of a verification of reused KV. kSkipped: too large, too many, or no room.
enum class ShadowResult { kMatch, kMismatch, kSkipped };

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void SetFacts(const ServerFacts& facts);
  void SetResidentMemory(const ResidentMemory& memory);

  // The tenants that requests are counted by; called once, before there are requests.
  void SetTenants(const std::vector<std::string>& names);

  void RequestStarted(absl::string_view method);
  void RequestFinished(const RequestSummary& summary);

  void StepFinished(int64_t prefill_tokens, int64_t decode_tokens, absl::Duration elapsed);
  void Preempted(Preemption kind);
  void InterTokenGap(absl::Duration gap);
  void SetEngineGauges(const EngineGauges& gauges);
  void SetStoreGauges(const StoreGauges& gauges);
  void SetProcessUsage(const ProcessUsage& usage);
  void SetNamespaceGauges(const std::vector<NamespaceGauges>& gauges);

  void SegmentsDurable(int64_t segments, int64_t bytes);
  // `codec` is one of few names; `saved` bytes are not written for it.
  void SegmentCompressed(absl::string_view codec, int64_t saved);
  void SegmentSkipped(WriteSkip reason, int64_t bytes);
  void SegmentRead(int64_t bytes, absl::Duration elapsed);
  void SegmentCorrupt();
  void SegmentsEvicted(int64_t segments, int64_t bytes);
  void BlocksEvicted(int64_t blocks);
  void SegmentOverQuota(const std::string& cache_namespace);  // not written
  void StoreFailed(StoreFailure failure);
  void EmbeddingFinished(absl::Duration elapsed);
  void EmbeddingFailed();
  void ShadowVerified(ShadowResult result);
  void EmbeddingDropped();  // not made: too many wait

  void LogLinesDropped(int64_t lines);

  // Prometheus text exposition format 0.0.4.
  std::string Serialize() const;

 private:
  struct Impl;
  static void CountReuse(Impl& impl, const RequestSummary& summary);
  std::unique_ptr<Impl> impl_;
};

}  // namespace reprise
