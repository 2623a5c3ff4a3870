// The Engine behind core/engine/engine.h. All private members below the inbox
// belong to the engine thread; workers hand results back as posted closures.
#pragma once

#include <condition_variable>
#include <deque>
#include <future>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "core/engine/admission.h"
#include "core/engine/block_cache.h"
#include "core/engine/cache_namespace.h"
#include "core/engine/compression.h"
#include "core/engine/cost_model.h"
#include "core/engine/engine.h"
#include "core/engine/engine_jobs.h"
#include "core/engine/scheduler.h"
#include "core/engine/sequence.h"
#include "core/engine/worker_thread.h"

namespace reprise {

class EngineImpl final : public Engine {
 public:
  EngineImpl(const EngineOptions& options, EngineParts parts);
  ~EngineImpl() override;

  absl::Status Start();

  absl::StatusOr<SequenceId> Submit(GenerateRequest request, GenerationSink sink) override;
  void Cancel(SequenceId id) override;
  absl::StatusOr<Explanation> Explain(const ExplainRequest& request) override;
  CacheStats GetCacheStats() override;
  absl::StatusOr<MarkedEntry> MarkEntry(const EntryMark& mark) override;
  absl::StatusOr<EntryPage> ListEntries(const EntryQuery& query) override;
  absl::StatusOr<CacheEntry> FindEntry(const std::string& tenant, const std::string& id) override;
  absl::StatusOr<CacheEntry> DescribeEntry(const std::string& tenant,
                                           absl::Span<const TokenId> ids) override;
  absl::StatusOr<PurgedEntry> PurgeEntry(const std::string& tenant,
                                         absl::Span<const TokenId> ids) override;
  absl::Status Flush() override;
  ArchiveFormat GetArchiveFormat() const override;
  absl::StatusOr<ArchivedEntry> ReadEntry(const std::string& tenant,
                                          absl::Span<const TokenId> ids) override;
  absl::StatusOr<Imported> WriteEntries(ImportBatch batch) override;
  void Drain(absl::Duration limit) override;
  bool WaitUntilIdle(absl::Duration limit) override;

 private:
  using Task = std::function<void()>;
  using SequencePtr = std::shared_ptr<Sequence>;

  // An embedding and the cached prompts nearest to it.
  struct Nearest {
    std::vector<float> embedding;
    std::vector<Neighbor> neighbors;
    bool evicted = false;  // there were nearer ones whose KV is gone
    int wanted = 0;        // of neighbors
  };

  // Rows of a step by kind.
  struct StepRows {
    int32_t sequences = 0;
    int32_t prefill = 0;
    int32_t decode = 0;
    int32_t depth = 0;  // most tokens that a prompt row has before it
  };

  // Runs on the engine thread.
  using NearestTask = std::function<void(const absl::StatusOr<Nearest>&)>;

  // What the store holds of the namespaces.
  struct NamespaceListing {
    std::vector<PromptRecord> prompts;
  };
  struct StoreListing {
    absl::Status status;
    std::vector<NamespaceListing> namespaces;  // by spec
    StoreStats stats;
  };

  // engine.cc: the thread and its inbox.
  absl::Status CheckRequest(const GenerateRequest& request) const;
  void Post(Task task);
  void Loop();
  bool TakeTasks(bool wait);
  void PublishState();
  CacheStats CollectStats();
  bool HasSequences() const { return !queued_.empty() || !waiting_.empty() || !running_.empty(); }
  bool IsIdle() const;
  bool EndRest(bool late);
  std::future<Explanation> StartExplain(const std::shared_ptr<ExplainJob>& job);
  bool StoreOn() const { return parts_.store != nullptr && store_enabled_; }
  bool SimilarityOn(const CacheNamespace& in) const {
    return in.vectors != nullptr && parts_.embed != nullptr;
  }
  RetrievalMode ModeOf(const Sequence& s) const {
    return s.request.retrieval_mode.value_or(options_.retrieval_mode);
  }
  absl::Duration Now() const { return parts_.clock->Monotonic(); }

  // engine_queue.cc: requests that leave the queue otherwise than by being taken up.
  void LeaveQueue(Sequence& sequence);
  SequencePtr Displaced();
  void KeepQueueWithinLimit();
  void CheckEnded();

  // engine_namespaces.cc: whose cache is whose.
  absl::StatusOr<size_t> SpecOf(const std::string& tenant) const;
  absl::Status CheckQuota(const NamespaceSpec& spec, int32_t needed_blocks) const;
  int32_t QuotaBlocks(const NamespaceSpec& spec) const;
  CacheNamespace& Open(size_t spec);
  CacheNamespace& NamespaceOf(const Digest& identity);
  void ForEachNamespace(absl::FunctionRef<void(CacheNamespace&)> visit) const;
  CacheNamespace* Largest(absl::FunctionRef<int64_t(const CacheNamespace&)> size) const;
  static int32_t MostBlocks(const Sequence& sequence);
  int32_t PinnedBlocks(const Sequence& sequence) const;
  int32_t MostUnpinned(const Sequence& sequence) const;
  int32_t PromisedBlocks(const CacheNamespace& in) const;
  bool HasQuotaFor(const Sequence& sequence) const;
  int32_t LeftByPins(const Sequence& sequence) const;
  bool KeepsPromises() const;
  absl::Status PinInMemory(const CacheNamespace& in, absl::Span<const TokenId> ids, bool pinned);
  void RefuseWhatPinsShutOut();
  NamespaceStats StatsOf(const CacheNamespace& in) const;
  void PublishNamespaces();
  int64_t DiskPayloadBytes() const;

  // Runs `work` on the engine thread and waits for what it returns.
  template <typename Result>
  Result OnEngine(absl::FunctionRef<Result()> work) {
    std::promise<Result> done;
    Post([&] { done.set_value(work()); });
    return done.get_future().get();
  }

  // engine_entries.cc: what operators see and do.
  CacheEntry EntryOf(const CacheNamespace& in, bool on_disk, PrefixIndex::NodeId node) const;
  absl::StatusOr<CacheEntry> DescribeNow(const CacheNamespace& in,
                                         absl::Span<const TokenId> ids) const;
  bool ListTier(const EntryQuery& query, const CacheNamespace& in, size_t& visited,
                EntryPage& page) const;
  absl::StatusOr<EntryPage> ListNow(const EntryQuery& query) const;

  // engine_archive.cc: entries on their way in and out.
  absl::Status CheckArchived(const ArchivedEntry& entry) const;
  std::vector<SegmentWrite> TakeArchived(const CacheNamespace& in, ImportBatch& batch);
  absl::Status StoreArchived(CacheNamespace& in, const ImportBatch& batch,
                             std::vector<SegmentWrite> writes);

  // engine_reuse.cc: from the queue to the first step.
  void Admit();
  std::optional<size_t> NextAdmitted() const;
  int32_t CachedTokens(const Sequence& sequence) const;
  bool HasRoomFor(const Sequence& sequence) const;
  void StartLookup(const SequencePtr& sequence);
  void LookUp(const SequencePtr& sequence);
  ReuseSnapshot SnapshotFor(Sequence& sequence, const DiskCache::Match& disk);
  void StartLoad(const SequencePtr& sequence, const ReusePlan& plan, DiskCache::Match disk);
  LoadResult ReadSegments(std::vector<SegmentRecord> records, LoadAccount& account);
  void LearnFromLoad(CacheNamespace& in, const LoadResult& load);
  void FinishLoad(const SequencePtr& sequence, const ReusePlan& plan, LoadResult load);
  void EndLoad(const SequencePtr& sequence, const ReusePlan& plan, int64_t bytes,
               absl::Duration elapsed);
  bool PlaceSegment(NamespaceId in, absl::Span<const TokenId> prefix, const SegmentRecord& record,
                    const std::vector<uint8_t>& payload);
  void Resume(const SequencePtr& sequence);
  void BeginRunning(const SequencePtr& sequence, int32_t tokens);
  void InsertRunning(const SequencePtr& sequence);
  void AccountReuse(Sequence& sequence, int32_t tokens, absl::Time made);
  absl::Time ShareBlocks(Sequence& sequence, int32_t tokens);
  Explanation ExplainNow(CacheNamespace& in, const ExplainRequest& request,
                         const absl::StatusOr<Nearest>& nearest);

  // engine_faults.cc: loads that stall.
  bool ReaderStalls() const;
  void GiveUpStalledLoads();
  void GiveUpLoad(const SequencePtr& sequence);
  bool LeaveLoad();

  // engine_sharing.cc: prefixes that others compute.
  bool IsFilling(const Sequence& sequence) const;
  std::vector<SequencePtr> FillingBefore(const Sequence& sequence) const;
  bool WaitForPrefix(const SequencePtr& sequence, const ReusePlan& plan);
  std::optional<int32_t> AwaitedTokens(const Sequence& sequence) const;
  bool IsAwaited(const Sequence& sequence) const;
  void Publish(Sequence& sequence);
  void ResumeSharers();
  void EndWait(Sequence& sequence);
  static void AccountSharing(Sequence& sequence, const ReusePlan& plan);

  // engine_shadow.cc: what was reused, computed again.
  void QueueShadow(const Sequence& sequence, const Usage& usage);
  void StepShadow();
  std::optional<ShadowResult> CompareShadow(Shadow& shadow);
  void EndShadow(ShadowResult result);
  void MakeRoomOfShadows();

  // engine_split.cc: prefixes computed from the front and loaded from the back.
  void StartSplit(const SequencePtr& sequence, const ReusePlan& plan, const DiskCache::Match& disk);
  void ReadFromBack(const SequencePtr& sequence, const std::shared_ptr<SplitLoad>& split);
  void TakeSegment(const SequencePtr& sequence, SplitLoad& split, size_t index,
                   const std::vector<uint8_t>& payload);
  bool ClaimFront(Sequence& sequence);
  void AdvanceSplits();
  void PassLoaded(Sequence& sequence);
  static void DropSplit(Reuse& reuse, ReuseReason reason);
  void Unpark(const SequencePtr& sequence);
  void EndParking(Sequence& sequence);
  void EndSplit(Sequence& sequence);
  void GiveUpSplit(const SequencePtr& sequence);
  static int64_t PayloadBytes(const std::vector<SegmentRecord>& segments);

  // engine_similarity.cc: the vector index.
  struct NearestQuery {
    CacheNamespace* in = nullptr;  // where to look
    int wanted = 0;
  };
  absl::StatusOr<std::vector<float>> RunEmbed(const std::string& text);
  void FindNearest(NearestQuery query, const std::string& text, const NearestTask& done);
  void SearchNearest(CacheNamespace& in, Nearest nearest, const NearestTask& done);
  void Embed(const SequencePtr& sequence);
  int32_t SemanticLimit(Sequence& sequence, ReuseSnapshot& snapshot);
  void KnownCandidate(Sequence& sequence);
  static bool IsIndexed(const CacheNamespace& in, const std::vector<TokenId>& ids);
  void QueueEmbedding(const Sequence& sequence);
  void RunQueuedEmbeddings();
  bool DecodingLeavesRoom() const;
  std::vector<std::vector<float>> RunEmbedBatch(absl::Span<const std::string> texts);
  void AddPrompt(CacheNamespace& in, const std::vector<TokenId>& ids,
                 const std::vector<float>& embedding);
  void AddVector(CacheNamespace& in, uint64_t id, const std::vector<float>& embedding);
  std::vector<uint64_t> ForgetEvictedPrompts(CacheNamespace& in, absl::Span<const Neighbor> near);
  void ForgetOldPrompts();
  void DropForgotten(CacheNamespace& in, uint64_t id);
  bool Holds(const CacheNamespace& in, absl::Span<const TokenId> ids) const;
  void ForgetPurgedPrompts(CacheNamespace& in, absl::Span<const TokenId> ids);
  void DeletePromptFromStore(const CacheNamespace& in, uint64_t id);
  bool VectorsToSave(bool all) const;
  void SaveVectors(bool all);

  // engine_schedule.cc: what a step is made of, and what it teaches.
  int32_t PendingNow(const Sequence& sequence) const;
  ScheduleSnapshot TakeSnapshot() const;
  SchedulePlan PlanStep();
  void Preempt(size_t index);
  void TraceStep(const SchedulePlan& plan, const StepRows& rows, StepTrace trace) const;
  StepRows CountRows(const std::vector<SequencePtr>& members, const StepBatch& batch) const;
  void LearnFromStep(const std::vector<SequencePtr>& members, const StepRows& rows,
                     absl::Duration elapsed);

  // engine_step.cc: batches.
  void Step();
  bool GrowBlocks(Sequence& sequence, int32_t tokens);
  StepBatch MakeBatch(const SchedulePlan& plan, std::vector<SequencePtr>& members);
  void AfterStep(const std::vector<SequencePtr>& members, const StepBatch& batch,
                 const StepResult& result, absl::Duration elapsed);
  void TakeToken(const SequencePtr& sequence, TokenId token);
  std::optional<FinishReason> EndReason(Sequence& sequence, TokenId token);
  void Finish(const SequencePtr& sequence, absl::Status status);
  void FillAccount(Sequence& sequence);
  void FillUnfinished(Sequence& sequence);
  void ReleaseBlocks(Sequence& sequence);

  // engine_speculation.cc: drafts.
  std::vector<TokenId> ProposeDraft(Sequence& sequence) const;
  void AddDrafts(const std::vector<SequencePtr>& members, StepBatch& batch);
  void TakeSampled(const SequencePtr& sequence, const StepSequence& step, const StepResult& result,
                   size_t index);
  bool DropAhead(const Sequence& sequence);

  // engine_marks.cc: what operators ask of entries, and their uses.
  absl::StatusOr<MarkedEntry> MarkNow(const EntryMark& mark);
  void MarkLoaded(const SegmentRecord& record, absl::Span<const TokenId> ids);
  void UnpinLoaded(const CacheNamespace& in, absl::Span<const TokenId> ids);
  void SaveUsage(std::function<void(absl::Status)> done = nullptr);
  void TouchOnDisk(CacheNamespace& in, const DiskCache::Match& disk, int32_t tokens);
  void DropExpired();

  // engine_flush.cc: what waits to be written.
  size_t NumDeferred() const;
  bool MayWriteDeferred() const;
  bool FlushMayAdvance() const;
  void AdvanceFlush();
  void EndFlush();
  std::optional<std::pair<CacheNamespace*, std::vector<TokenId>>> TakeDeferred();
  void WriteDeferred();

  // engine_persist.cc: what outlives the request.
  void Keep(Sequence& sequence);
  // Why a segment is not written now; without a reason it is when the engine is idle.
  struct NotNow {
    std::optional<WriteSkip> skip;
  };
  int64_t PayloadBytes(size_t tokens) const;
  std::optional<NotNow> WhyNotNow(CacheNamespace& in, const SegmentRecord& record, bool idle);
  void QueueSegments(CacheNamespace& in, absl::Span<const TokenId> ids,
                     absl::Span<const BlockId> blocks, bool idle);
  void TakeMarks(const CacheNamespace& in, absl::Span<const TokenId> ids,
                 SegmentRecord& record) const;
  void QueueSegment(CacheNamespace& in, SegmentRecord&& record, absl::Span<const BlockId> blocks);
  bool MakeRoomToWrite(CacheNamespace& in, int64_t bytes,
                       absl::Span<const PrefixIndex::NodeId> kept);
  void EndWrite(const SegmentRecord& record);
  void DeleteEvicted(std::vector<SegmentKey> keys, int64_t bytes);
  void CopyOneSegment();
  PayloadCodec CodecNow() const;
  void FlushWrites();
  void WritesDone(const std::vector<SegmentRecord>& records, const absl::Status& status);
  void AddToDisk(const SegmentRecord& record);
  void EvictFromStore(int64_t more = 0);
  void EvictOtherIdentities(int64_t limit);
  void DeleteFromStore(std::vector<SegmentKey> keys);
  void Tell(std::string event, const absl::Status& status = absl::OkStatus());
  void StoreFailed(StoreFailure failure, const absl::Status& status);
  void SwitchStoreOff(const absl::Status& status);
  void RetryStore();
  StoreListing ListStore(const std::function<void(SegmentRecord)>& visit);
  void Adopt(StoreListing&& listing, int64_t own_bytes);

  const EngineOptions options_;
  EngineParts parts_;

  // The standard mutex, since ThreadSanitizer does not see into a packaged abseil.
  std::mutex mutex_;                 // guards what follows up to the blank line
  std::condition_variable news_;     // the inbox or stopping_ changed
  std::condition_variable settled_;  // idle_ became true
  std::deque<Task> inbox_;
  bool stopping_ = false;
  bool draining_ = false;
  bool idle_ = false;
  int queued_count_ = 0;
  std::vector<int> queued_of_;  // of these, by spec
  SequenceId next_id_ = 1;

  // By spec; null until something is known of it.
  std::vector<std::unique_ptr<CacheNamespace>> namespaces_;
  absl::flat_hash_map<std::string, size_t> spec_of_tenant_;  // does not change
  absl::flat_hash_map<Digest, CacheNamespace*> by_identity_;
  BlockCache blocks_;
  std::vector<absl::Time> made_;  // by block: when its KV was computed, a loaded one's too
  CostModel costs_;
  CompressionRates compression_;    // the latest
  EvictionCosts disk_costs_;        // of segments, for their ranks
  int steps_beside_decode_ = 0;     // in a row, with prompt rows
  std::deque<SequencePtr> queued_;  // not taken up yet, or preempted
  std::list<SequencePtr> waiting_;  // embedding, sharing or loading
  std::deque<Shadow> shadows_;
  int32_t shadow_credit_ = 0;         // percent of a verification that hits have earned
  int64_t pending_load_bytes_ = 0;    // of payload that the reader is to read
  int64_t taken_up_ = 0;              // look-ups begun
  std::vector<SequencePtr> running_;  // oldest first
  absl::flat_hash_set<SequenceId> cancelled_;

  std::deque<PendingFlush> flushes_;
  int64_t copies_queued_ = 0, copies_done_ = 0;  // since start
  std::deque<PendingCopy> copies_;               // segments still to be copied out of their blocks
  std::vector<SegmentWrite> writes_;             // copied, not handed to the store yet
  int64_t writes_bytes_ = 0;
  int64_t pending_bytes_ = 0;     // of payload in copies_, in writes_ and with the writer
  int64_t writing_segments_ = 0;  // handed to the store
  int64_t durable_segments_ = 0;
  int64_t other_bytes_ = 0;  // of payload in the store under other identities, at most
  absl::Duration last_activity_;
  bool store_enabled_ = true;          // off after repeated failures
  int store_failures_ = 0;             // in a row
  std::deque<OutstandingLoad> loads_;  // the reader's, in its order, those of ended requests too
  bool reader_stalled_ = false;        // loads_ are given up
  bool retrying_store_ = false;
  // While it is off; while the last save of the vectors failed.
  absl::Duration retry_store_at_, retry_vectors_at_;
  std::deque<PendingEmbedding> embeddings_;
  bool embedding_now_ = false;
  int64_t purges_ = 0;                // of entries
  absl::Duration embed_beside_from_;  // while others decode: not before
  int64_t moving_vectors_ = 0;        // on their way into the index or out of it
  int64_t vector_changes_ = 0;        // since the index was saved
  bool saving_vectors_ = false, vectors_not_saved_ = false;  // not: the last attempt failed

  // Declared last: they are joined before what they use goes away.
  std::unique_ptr<WorkerThread> reader_, writer_, embedder_;
  std::thread thread_;
};

}  // namespace reprise
