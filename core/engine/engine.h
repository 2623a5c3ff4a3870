// Engine: one thread that owns all sequences, KV blocks and the prefix index,
// and turns requests into tokens by continuous batching.
//
// Life of a request: admission (bounded queue) -> reuse lookup -> plan -> load
// from the store on I/O threads -> scheduled steps on the ModelRunner -> tokens
// to the sink -> commit of finished blocks into the index, write-behind to the
// store, embedding queued.
//
// Threading  every public method is safe from any thread.
// Ownership  the engine owns its runner, store and vector index; the tokenizer,
//            metrics and clock outlive it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/clock.h"
#include "core/base/digest.h"
#include "core/engine/cache_archive.h"
#include "core/engine/cache_entries.h"
#include "core/engine/cache_namespace.h"
#include "core/engine/request.h"
#include "core/engine/reuse_planner.h"
#include "core/engine/step_trace.h"
#include "core/kv/eviction_rank.h"
#include "core/model/model_runner.h"
#include "core/similarity/vector_index.h"
#include "core/store/kv_store.h"
#include "core/telemetry/metrics.h"
#include "core/text/tokenizer.h"

namespace reprise {

struct EngineOptions {
  int max_queued_requests = 256;   // waiting ones; more are refused
  int max_running_sequences = 32;  // decoding or prefilling at once
  int max_batch_tokens = 256;      // rows per step
  // How much longer than a step that only decodes one with prompt rows beside may take, by
  // prediction: bounds how long a prefill holds up decoding streams. One row always runs, but in
  // one step of 13, which shows what decoding alone takes.
  int max_decode_slowdown_percent = 40;
  // Draft rows of one step, of all sequences together; each takes time from all. 0: none.
  int max_step_draft_tokens = 32;
  RetrievalMode retrieval_mode = RetrievalMode::kHybrid;
  int semantic_top_k = 1;           // candidates verified in SEMANTIC mode
  bool require_full_prefix = true;  // SEMANTIC: a candidate counts only as a whole
  // Live payload of all identities; others' go first, then leaves by `eviction`. The store's
  // own limit, KvStore::PayloadLimit, counts too.
  int64_t max_disk_bytes = int64_t{8} << 30;
  int64_t write_batch_bytes = int64_t{16} << 20;  // payload that becomes durable together
  // Whether only what is used a second time is written at once and the rest when the engine
  // has been idle for flush_after_idle, and nothing that would not be loaded.
  bool write_selectively = false;
  // How segments may lie in the store: compressed while they load faster then, by what was
  // measured. kInt8 changes replies: `exact` must be false.
  PayloadCodec store_codec = PayloadCodec::kRaw;
  int kv_value_bytes = 2;  // of one value in a block
  // Payload bytes on their way to the store, in memory until it has them: two seconds
  // of writing at the store's default cap. What comes on top is not written.
  int64_t max_pending_write_bytes = int64_t{512} << 20;
  // Known to similarity search; the oldest give way. Tokens: four bytes each in memory.
  int64_t max_prompts = 100000;
  int64_t max_prompt_tokens = int64_t{16} << 20;
  EvictionOptions eviction;  // of blocks in memory and segments on disk
  // Of the requests that reused something, those that are computed again while the engine is
  // idle and compared, bit for bit.
  int shadow_verify_percent = 0;
  absl::Duration flush_after_idle = absl::Seconds(1);  // write-behind flushes after this idle time
  // What a load may take beyond its prediction. Then its request computes, and the store is
  // off until the load is back.
  absl::Duration load_budget = absl::Seconds(1);
  // After this, a store that was switched off is tried again, and so is saving vectors.
  absl::Duration retry_pause = absl::Minutes(1);
  std::string vector_index_path;  // saved here on flush; empty: not saved
  bool exact = true;              // what replies say of exactness
};

// Text to unit vector; called on the embedding thread only.
using EmbedFunction = std::function<absl::StatusOr<std::vector<float>>(const std::string& text)>;

// The same of several texts at once, in their order; called on the embedding thread only.
using EmbedBatchFunction =
    std::function<absl::StatusOr<std::vector<std::vector<float>>>(absl::Span<const std::string>)>;

// What an operator should know of, as a log line says it.
struct EngineEvent {
  std::string name;   // "store_switched_off", "store_switched_on", "vector_index_not_saved",
                      // "shadow_mismatch"
  std::string error;  // empty when it is good news
};

// An empty vector index, for a namespace that is made.
using VectorIndexFactory = std::function<std::unique_ptr<VectorIndex>()>;

struct EngineParts {
  std::unique_ptr<ModelRunner> runner;
  std::unique_ptr<KvStore> store;                    // null: the disk tier is off
  std::unique_ptr<VectorIndex> vectors;              // null: no similarity search
  EmbedFunction embed;                               // null: no similarity search
  EmbedBatchFunction embed_batch;                    // null: one text after another
  std::function<void(const EngineEvent&)> on_event;  // on the engine thread; null: nobody asks
  std::function<void(const StepTrace&)> on_step;     // on the engine thread, which it must not hold
                                                     // up; null: no trace
  const std::atomic<LoadWay>* load_way = nullptr;    // null: the best; for measurements
  const Tokenizer* tokenizer = nullptr;
  Metrics* metrics = nullptr;
  const Clock* clock = nullptr;
  Digest meaning{};   // as `identity`, but for the tenant: of archives
  Digest identity{};  // of the first namespace: model, tokenizer, numerics, format, tenant
  // The first one's identity is `identity`, and `vectors` is its index. Empty: one namespace
  // for all requests, whatever their tenant.
  std::vector<NamespaceSpec> namespaces;
  VectorIndexFactory new_vectors;  // of the other namespaces; null: no similarity search there
};

struct ExplainRequest {
  std::string tenant;
  std::vector<TokenId> prompt;
  std::string prompt_text;
  std::optional<absl::Duration> deadline;  // on Clock::Monotonic
  std::function<bool()> is_cancelled;      // polled by the waiting caller; null: never
};

struct Explanation {
  int32_t host_tokens = 0;  // usable from memory
  int32_t disk_tokens = 0;  // usable from the store, the memory part included
  int32_t ideal_tokens = 0;
  MissReason miss_reason = MissReason::kNone;
  ReuseDecision decision = ReuseDecision::kMiss;  // what USE would do now
  ReuseReason reason = ReuseReason::kNone;
  absl::Duration predicted_cold_prefill;
  absl::Duration predicted_warm_prefill;  // load included
  absl::Duration predicted_load;
  int64_t load_bytes = 0;            // payload in the store behind what memory holds
  std::optional<Candidate> nearest;  // by sentence embedding; of equally near ones the deepest
  std::vector<TokenId> nearest_ids;  // that prompt's ids
};

struct CacheStats {
  int64_t host_block_count = 0;         // in the pool
  int64_t host_cached_block_count = 0;  // holding indexed KV
  int64_t host_free_block_count = 0;
  int64_t host_available_block_count = 0;  // free, or held by the cache alone
  int64_t host_block_bytes = 0;            // one block
  int64_t host_cached_tokens = 0;
  bool disk_enabled = false;
  StoreStats disk;
  int64_t disk_cached_tokens = 0;
  int64_t pending_write_segments = 0;
  int64_t durable_segments = 0;  // made durable since start
  int64_t vector_count = 0;
  int64_t prompt_count = 0;
  int32_t running_sequences = 0;
  int32_t queued_requests = 0;
  std::vector<NamespaceStats> namespaces;  // those that there are, in order of their specs
};

// What an operator asks of a cached entry: the KV of `ids`, from position 0.
struct EntryMark {
  std::string tenant;
  std::vector<TokenId> ids;
  std::optional<bool> pinned;         // keep it, however much room others need; or no longer
  std::optional<absl::Duration> ttl;  // from now; absl::InfiniteDuration(): never expires
};

struct MarkedEntry {
  int32_t host_tokens = 0;  // of `ids`, that a tier holds and the marks hold for
  int32_t disk_tokens = 0;
};

// Part of an import.
struct ImportBatch {
  std::string tenant;
  std::vector<ArchivedEntry> entries;
  int64_t bytes_before = 0;  // that the parts before it took
};

// What was new of it.
struct Imported {
  int64_t tokens = 0;
  int64_t bytes = 0;  // of payload
};

class Engine {
 public:
  // Reads the store's records and prompts of `identity` and starts the threads.
  // A store that fails to list, or later again and again, is switched off: a metric, an
  // event, and another try after a pause.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options,
                                                        EngineParts parts);
  virtual ~Engine() = default;  // as Drain with no time left

  // kInvalidArgument: empty prompt, prompt + max_output_tokens past the model's
  // context, a token id or a field of speculation out of range; kPermissionDenied: the tenant has
  // no namespace; kResourceExhausted: the queue is full and no other namespace holds more of it,
  // or prompt and output can never fit the pool or the tenant's quota; kUnavailable: draining.
  // Nothing is called on the sink unless this returns an id for Cancel. The sink gets
  // kResourceExhausted when a request that waits gives way to one of a namespace that holds
  // less of a full queue, or pins leave too little for it.
  virtual absl::StatusOr<SequenceId> Submit(GenerateRequest request, GenerationSink sink) = 0;

  // Stops the sequence within one step; its sink gets kCancelled. Unknown ids are ignored.
  virtual void Cancel(SequenceId id) = 0;

  // Waits its turn for an embedding. kInvalidArgument as Submit; kUnavailable: draining;
  // kCancelled, kDeadlineExceeded: the caller gave up, and an embedding not begun is not made.
  virtual absl::StatusOr<Explanation> Explain(const ExplainRequest& request) = 0;
  virtual CacheStats GetCacheStats() = 0;

  // Pins, unpins or sets the time to live of what the tiers hold of an entry. A pinned entry
  // is not evicted and does not expire; an expired one goes once nothing runs on it, with all
  // that only it reaches. In the store marks survive a restart; they go along when an entry is
  // written or loaded.
  // kInvalidArgument: no ids, or a ttl that is not positive; kNotFound: no tier holds all of
  // `ids`; kResourceExhausted: the pool cannot pin as much (half of it); nothing is changed.
  // Returns once the store has the marks; kUnavailable: it does not, and they hold until the end
  // of the process unless a later try succeeds.
  virtual absl::StatusOr<MarkedEntry> MarkEntry(const EntryMark& mark) = 0;

  // For operators. A page may be short, or even empty, with more to come: what one call looks
  // at is bounded. kPermissionDenied: no such tenant.
  virtual absl::StatusOr<EntryPage> ListEntries(const EntryQuery& query) = 0;

  // By the id that a list gave, or "p-N" for the prompt that similarity search knows as N.
  // kInvalidArgument: not an entry's id; kNotFound: of no entry any more.
  virtual absl::StatusOr<CacheEntry> FindEntry(const std::string& tenant,
                                               const std::string& id) = 0;

  // The entry that holds most of the beginning of `ids`; kNotFound: none holds any.
  virtual absl::StatusOr<CacheEntry> DescribeEntry(const std::string& tenant,
                                                   absl::Span<const TokenId> ids) = 0;

  // Removes what the tiers hold of an entry as far as no other entry has it too and no request
  // uses it, and the prompts that it begins with and no tier has any more; a request that is
  // loading it computes instead, one that uses it caches it again. The tokens removed.
  // kFailedPrecondition: the store is off; nothing is removed.
  virtual absl::StatusOr<PurgedEntry> PurgeEntry(const std::string& tenant,
                                                 absl::Span<const TokenId> ids) = 0;

  // Makes all KV of requests that have ended durable, that of first uses too, but for what was
  // refused: it would not be loaded (EngineOptions::write_selectively), or a limit is reached.
  // Steps go on meanwhile. kFailedPrecondition: the store is off.
  virtual absl::Status Flush() = 0;

  virtual ArchiveFormat GetArchiveFormat() const = 0;

  // The segments of an entry, read from the store and verified, as far as the store holds only
  // it and up to one that is damaged. kNotFound: there are none, or other entries have them
  // too; kFailedPrecondition: the store is off; otherwise as KvStore.
  virtual absl::StatusOr<ArchivedEntry> ReadEntry(const std::string& tenant,
                                                  absl::Span<const TokenId> ids) = 0;

  // Makes archived entries durable under the tenant, all or none; other entries of the tenant
  // give way, but none of what these begin with. kInvalidArgument: not entries of this model;
  // kResourceExhausted: the import would be larger than the tenant's quota, or too much is pinned
  // or on its way; kFailedPrecondition: the store is off; kUnavailable: it did not take all,
  // whole segments stay.
  virtual absl::StatusOr<Imported> WriteEntries(ImportBatch batch) = 0;

  // Refuses new requests, lets running ones finish until `limit` has passed
  // (then they get kUnavailable), makes all admitted KV durable and, while time is left, first
  // uses too; saves the vector index.
  virtual void Drain(absl::Duration limit) = 0;

  // Blocks until all write-behind and embedding work has finished or `limit` has passed.
  virtual bool WaitUntilIdle(absl::Duration limit) = 0;
};

}  // namespace reprise
