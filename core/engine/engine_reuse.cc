#include <algorithm>

#include "core/base/status_macros.h"
#include "core/engine/engine_impl.h"

namespace reprise {

void EngineImpl::Admit() {
  RefuseWhatPinsShutOut();
  while (const auto next = NextAdmitted()) {
    const SequencePtr sequence = queued_[*next];
    for (size_t i = 0; i < *next; ++i) {
      if (HasQuotaFor(*queued_[i])) ++queued_[i]->passed_over;
    }
    queued_.erase(queued_.begin() + static_cast<int64_t>(*next));
    StartLookup(sequence);
  }
}

// The place in the queue of the one to take up now; none: nobody waits, or the one whose
// turn it is has no room yet. Nobody goes ahead of that one for being smaller. Who waits for
// room in the quota of a tenant holds up that tenant's requests alone.
std::optional<size_t> EngineImpl::NextAdmitted() const {
  const auto limit = static_cast<size_t>(options_.max_running_sequences);
  if (queued_.empty() || running_.size() + waiting_.size() >= limit) return std::nullopt;
  std::vector<QueuedRequest> window;
  std::vector<size_t> places;
  absl::flat_hash_set<const CacheNamespace*> full;
  for (size_t i = 0; i < queued_.size() && window.size() < kAdmissionWindow; ++i) {
    const Sequence& sequence = *queued_[i];
    if (full.contains(sequence.cache)) continue;
    if (!HasQuotaFor(sequence)) {
      full.insert(sequence.cache);
      continue;
    }
    places.push_back(i);
    window.push_back({static_cast<int32_t>(sequence.tokens.size()), CachedTokens(sequence),
                      sequence.looked_up, sequence.passed_over});
  }
  if (window.empty()) return std::nullopt;
  const size_t next = places[NextToAdmit(window)];
  if (!HasRoomFor(*queued_[next])) return std::nullopt;
  return next;
}

// Of a queued sequence: what it would find in memory now.
int32_t EngineImpl::CachedTokens(const Sequence& sequence) const {
  return sequence.looks_up() ? blocks_.MatchedTokens(sequence.cache->id, sequence.tokens) : 0;
}

bool EngineImpl::HasRoomFor(const Sequence& sequence) const {
  int32_t promised = 0;  // to prompts that run but do not hold all their blocks yet
  for (const SequencePtr& other : running_) {
    promised += BlocksFor(static_cast<int32_t>(other->tokens.size())) -
                static_cast<int32_t>(other->blocks.size());
  }
  for (const SequencePtr& other : waiting_) {
    const int32_t shared = other->shared_from != nullptr ? other->shared_tokens / kBlockTokens : 0;
    const auto held = static_cast<int32_t>(other->blocks.size());
    promised += std::max(BlocksFor(other->prompt_size()) + 1 - shared - held, 0);
  }
  const int32_t needed =
      BlocksFor(static_cast<int32_t>(sequence.tokens.size())) + 1 - PinnedBlocks(sequence);
  return blocks_.num_available() - promised >= needed;
}

void EngineImpl::StartLookup(const SequencePtr& sequence) {
  LeaveQueue(*sequence);
  if (sequence->looked_up) return Resume(sequence);
  sequence->taken_up = ++taken_up_;
  sequence->lookup_started = Now();
  sequence->result.timings.queue = sequence->lookup_started - sequence->submitted;
  const bool semantic = ModeOf(*sequence) == RetrievalMode::kSemantic;
  if (semantic && sequence->looks_up() && SimilarityOn(*sequence->cache)) {
    Embed(sequence);
  } else {
    LookUp(sequence);
  }
}

// A preempted sequence shares what is left in memory of what it had, and of its prompt what
// others computed meanwhile, where its look-up might have found that too.
void EngineImpl::Resume(const SequencePtr& sequence) {
  const auto usable = static_cast<int32_t>(sequence->tokens.size()) - 1;
  const int32_t found = std::min(CachedTokens(*sequence), usable);
  const Reuse& reuse = sequence->result.reuse;
  const int32_t had = std::max(sequence->prompt_reached, reuse.host_tokens + reuse.disk_tokens);
  const bool more_is_allowed =
      had == sequence->prompt_size() || (ModeOf(*sequence) != RetrievalMode::kSemantic &&
                                         found >= sequence->request.minimum_reuse_tokens);
  BeginRunning(sequence, more_is_allowed ? found : std::min(found, had));
}

ReuseSnapshot EngineImpl::SnapshotFor(Sequence& sequence, const DiskCache::Match& disk) {
  const std::vector<TokenId>& prompt = sequence.request.prompt;
  const CacheNamespace& in = *sequence.cache;
  ReuseSnapshot snapshot;
  snapshot.prompt_tokens = sequence.prompt_size();
  snapshot.policy = sequence.request.cache_policy;
  snapshot.minimum_tokens = sequence.request.minimum_reuse_tokens;
  snapshot.miss_reason = in.prompts.IdOf(prompt) ? MissReason::kEvicted : MissReason::kDiverges;
  const bool empty = blocks_.num_cached(in.id) == 0 && in.disk.size() == 0;
  if (empty) snapshot.miss_reason = MissReason::kCacheEmpty;
  if (!sequence.looks_up()) return snapshot;
  int32_t limit = snapshot.prompt_tokens;
  if (ModeOf(sequence) == RetrievalMode::kSemantic) limit = SemanticLimit(sequence, snapshot);
  snapshot.memory_tokens = std::min(blocks_.MatchedTokens(in.id, prompt), limit);
  snapshot.disk_tokens = std::min(disk.tokens, limit);
  snapshot.queued_load_bytes = pending_load_bytes_;
  if (parts_.load_way != nullptr) snapshot.way = *parts_.load_way;
  for (const SegmentRecord& segment : disk.segments) {
    const auto end = segment.start_position + static_cast<int32_t>(segment.ids.size());
    const bool needed =
        end > snapshot.memory_tokens && segment.start_position < snapshot.disk_tokens;
    if (needed) snapshot.load_bytes += segment.payload_bytes;
  }
  return snapshot;
}

void EngineImpl::LookUp(const SequencePtr& sequence) {
  DiskCache::Match disk;
  if (StoreOn() && sequence->looks_up()) {
    disk = sequence->cache->disk.Find(sequence->request.prompt);
  }
  const ReusePlan plan = PlanReuse(SnapshotFor(*sequence, disk), costs_);
  const bool waits = WaitForPrefix(sequence, plan);
  sequence->result.timings.lookup = Now() - sequence->lookup_started;
  if (waits) return;
  Reuse& reuse = sequence->result.reuse;
  reuse.decided = true;
  reuse.decision = plan.decision;
  reuse.reason = plan.reason;
  reuse.miss_reason = plan.miss_reason;
  reuse.ideal_tokens = plan.ideal_tokens;
  reuse.predicted_load = plan.predicted_load;
  reuse.predicted_prefill = plan.predicted_prefill;
  reuse.predicted_cold_prefill = plan.predicted_cold_prefill;
  reuse.predicted_total = plan.predicted_total;
  sequence->predicted_alternative = plan.predicted_alternative;
  AccountSharing(*sequence, plan);
  if (!reuse.candidate_computed) KnownCandidate(*sequence);
  TouchOnDisk(*sequence->cache, disk, std::max(plan.memory_tokens, plan.disk_tokens));
  sequence->looked_up = true;
  sequence->result.timings.lookup = Now() - sequence->lookup_started;
  if (plan.split_at > 0) {
    reuse.host_tokens = plan.memory_tokens;
    StartSplit(sequence, plan, disk);
  } else if (plan.disk_tokens > plan.memory_tokens) {
    StartLoad(sequence, plan, std::move(disk));
  } else {
    reuse.host_tokens = plan.memory_tokens;
    BeginRunning(sequence, plan.memory_tokens);
  }
}

void EngineImpl::StartLoad(const SequencePtr& sequence, const ReusePlan& plan,
                           DiskCache::Match disk) {
  sequence->state = SequenceState::kLoading;
  sequence->load_started = Now();
  waiting_.push_back(sequence);
  // Held so that they are not evicted while the rest is on its way.
  sequence->blocks =
      blocks_.Share(sequence->cache->id, sequence->request.prompt, plan.memory_tokens);
  std::erase_if(disk.segments, [&](const SegmentRecord& segment) {
    const auto end = segment.start_position + static_cast<int32_t>(segment.ids.size());
    return end <= plan.memory_tokens || segment.start_position >= plan.disk_tokens;
  });
  sequence->load = std::make_shared<LoadAccount>();
  sequence->load_plan = plan;
  loads_.push_back({sequence->load, plan.predicted_load});
  const int64_t bytes = PayloadBytes(disk.segments);
  pending_load_bytes_ += bytes;
  reader_->Post([this, sequence, plan, bytes, account = sequence->load,
                 segments = std::move(disk.segments)]() mutable {
    auto load = std::make_shared<LoadResult>(ReadSegments(std::move(segments), *account));
    Post([this, sequence, plan, bytes, load] {
      pending_load_bytes_ -= bytes;
      load->given_up = LeaveLoad();
      FinishLoad(sequence, plan, std::move(*load));
    });
  });
}

// On the reader thread: segments in order, up to the first that fails or until the
// sequence has ended.
LoadResult EngineImpl::ReadSegments(std::vector<SegmentRecord> records, LoadAccount& account) {
  LoadResult load;
  load.records = std::move(records);
  const absl::Duration start = Now();
  account.Begin(start);
  for (const SegmentRecord& record : load.records) {
    if (account.closed()) break;
    const absl::Duration before = Now();
    std::vector<uint8_t> payload(static_cast<size_t>(record.payload_bytes));
    load.status = parts_.store->ReadSegment(record, absl::MakeSpan(payload));
    if (!load.status.ok() || !account.Add(record.payload_bytes)) break;
    load.bytes += record.payload_bytes;
    parts_.metrics->SegmentRead(record.payload_bytes, Now() - before);
    load.payloads.push_back(std::move(payload));
    load.codec = std::max(load.codec, record.codec);
  }
  load.elapsed = Now() - start;
  return load;
}

// Writes one loaded segment into fresh blocks behind `prefix`, which must be cached
// whole, and indexes them.
bool EngineImpl::PlaceSegment(NamespaceId in, absl::Span<const TokenId> prefix,
                              const SegmentRecord& record, const std::vector<uint8_t>& payload) {
  const auto block_bytes = static_cast<size_t>(parts_.runner->block_bytes());
  const size_t count = BlocksFor(static_cast<int32_t>(record.ids.size()));
  if (payload.size() != count * block_bytes) return false;
  const auto depth = static_cast<int32_t>(prefix.size());
  // As many blocks may be found where another prompt shares only part of the last one.
  if (blocks_.MatchedTokens(in, prefix) != depth) return false;
  std::vector<BlockId> blocks = blocks_.Share(in, prefix, depth);
  bool placed = true;
  for (size_t i = 0; i < count && placed; ++i) {
    const auto block = blocks_.Allocate(in);
    placed = block.ok();
    if (!placed) break;
    made_[*block] = absl::FromUnixMillis(record.created_unix_ms);
    blocks.push_back(*block);
    const ByteView bytes = absl::MakeConstSpan(payload).subspan(i * block_bytes, block_bytes);
    placed = parts_.runner->WriteBlock(*block, bytes).ok();
  }
  if (placed) {
    std::vector<TokenId> ids(prefix.begin(), prefix.end());
    ids.insert(ids.end(), record.ids.begin(), record.ids.end());
    blocks_.Commit(in, ids, absl::MakeSpan(blocks), /*whole_blocks_only=*/false);
    MarkLoaded(record, ids);
  }
  for (const BlockId block : blocks) blocks_.Release(block);
  return placed;
}

// What a load says of the store, however the request that asked for it ended.
void EngineImpl::LearnFromLoad(CacheNamespace& in, const LoadResult& load) {
  if (load.status.ok()) {
    if (load.given_up) return;  // a stall says nothing of other loads
    store_failures_ = 0;
    costs_.ObserveLoad(load.bytes, load.elapsed, static_cast<int>(load.records.size()));
    return;
  }
  if (absl::IsDataLoss(load.status)) parts_.metrics->SegmentCorrupt();
  const bool unavailable = absl::IsUnavailable(load.status);
  if (unavailable) StoreFailed(StoreFailure::kRead, load.status);
  // What is damaged or gone takes along what hangs below it. After a failed read
  // it may be whole: it stays in the store for the next listing.
  std::vector<SegmentKey> lost = in.disk.Forget(load.records[load.payloads.size()].key);
  if (!unavailable) DeleteFromStore(std::move(lost));
}

void EngineImpl::FinishLoad(const SequencePtr& sequence, const ReusePlan& plan, LoadResult load) {
  CacheNamespace& in = *sequence->cache;
  LearnFromLoad(in, load);
  if (sequence->state != SequenceState::kLoading) return;  // ended meanwhile
  const std::vector<TokenId>& prompt = sequence->request.prompt;
  for (size_t i = 0; i < load.payloads.size(); ++i) {
    const SegmentRecord& record = load.records[i];
    const auto prefix = absl::MakeConstSpan(prompt).subspan(0, record.start_position);
    if (!PlaceSegment(in.id, prefix, record, load.payloads[i])) break;
  }
  if (load.bytes > 0) sequence->result.reuse.disk_codec = PayloadCodecName(load.codec);
  EndLoad(sequence, plan, load.bytes, load.elapsed);
}

// From loading to running, with what of the plan is in memory now.
void EngineImpl::EndLoad(const SequencePtr& sequence, const ReusePlan& plan, int64_t bytes,
                         absl::Duration elapsed) {
  const std::vector<TokenId>& prompt = sequence->request.prompt;
  Reuse& reuse = sequence->result.reuse;
  sequence->load = nullptr;
  reuse.disk_bytes_read = bytes;
  reuse.actual_load = elapsed;
  waiting_.remove(sequence);
  ReleaseBlocks(*sequence);
  sequence->result.timings.load = Now() - sequence->load_started;
  const int32_t depth =
      std::min(blocks_.MatchedTokens(sequence->cache->id, prompt), plan.disk_tokens);
  if (depth < plan.disk_tokens) {
    reuse.decision = depth > 0 ? ReuseDecision::kPartial : ReuseDecision::kRecomputed;
    reuse.reason = ReuseReason::kLoadFailed;
  }
  reuse.host_tokens = std::min(plan.memory_tokens, depth);
  reuse.disk_tokens = depth - reuse.host_tokens;
  BeginRunning(sequence, depth);
}

// Shares the blocks of the first `tokens` ids; one used in part is copied. When the
// deepest one that is used was made.
absl::Time EngineImpl::ShareBlocks(Sequence& sequence, int32_t tokens) {
  sequence.blocks = blocks_.Share(sequence.cache->id, sequence.tokens, tokens);
  sequence.computed = tokens;
  const auto deepest = [&] {
    return sequence.blocks.empty() ? absl::InfinitePast() : made_[sequence.blocks.back()];
  };
  absl::Time made = deepest();
  const int32_t in_last = tokens % kBlockTokens;
  if (in_last == 0) return made;
  const BlockId shared = sequence.blocks.back();
  sequence.blocks.pop_back();
  const auto copy = blocks_.Allocate(sequence.cache->id);
  if (copy.ok() && parts_.runner->CopyBlock(shared, *copy, in_last).ok()) {
    made_[*copy] = parts_.clock->Now();
    sequence.blocks.push_back(*copy);
  } else {
    if (copy.ok()) blocks_.Release(*copy);
    sequence.computed -= in_last;
    made = deepest();
  }
  blocks_.Release(shared);
  return made;
}

void EngineImpl::BeginRunning(const SequencePtr& sequence, int32_t tokens) {
  const absl::Time made = ShareBlocks(*sequence, tokens);
  sequence->state = SequenceState::kRunning;
  // Until its first step a sequence has used nothing of what was found for it.
  const int32_t used = sequence->prompt_reached;
  const int32_t reused = std::min(sequence->computed, sequence->prompt_size());
  if (used == 0 || reused > used) AccountReuse(*sequence, reused - used, made);
  if (sequence->prefill_started == absl::ZeroDuration()) sequence->prefill_started = Now();
  InsertRunning(sequence);
}

void EngineImpl::InsertRunning(const SequencePtr& sequence) {
  const auto older = [](const SequencePtr& a, const SequencePtr& b) { return a->id < b->id; };
  running_.insert(std::upper_bound(running_.begin(), running_.end(), sequence, older), sequence);
}

// Counts `tokens` of the prompt as reused beyond those that the sequence came to before. It
// may be less than the look-up found: a copy had no room, or a preemption came first.
void EngineImpl::AccountReuse(Sequence& sequence, int32_t tokens, absl::Time made) {
  Reuse& reuse = sequence.result.reuse;
  if (sequence.prompt_reached > 0) {
    reuse.host_tokens += tokens;
    sequence.prompt_reached += tokens;
  } else {
    reuse.disk_tokens = std::clamp(tokens - reuse.host_tokens, 0, reuse.disk_tokens);
    reuse.host_tokens = tokens - reuse.disk_tokens;
    reuse.in_flight_tokens = std::min(reuse.in_flight_tokens, reuse.host_tokens);
  }
  const int32_t cached = reuse.host_tokens + reuse.disk_tokens;
  if (cached == 0) return;
  const absl::Duration age = parts_.clock->Now() - made;  // below zero: the clock was set back
  reuse.entry_age = std::max(age, absl::ZeroDuration());
  reuse.ideal_tokens = std::max(reuse.ideal_tokens, cached);
  const bool none_before =
      reuse.decision == ReuseDecision::kMiss || reuse.decision == ReuseDecision::kRecomputed;
  if (!none_before) return;
  // Another request computed it while this one was preempted.
  const bool forced = sequence.request.cache_policy == CachePolicy::kForce;
  reuse.decision = ReuseDecision::kReused;
  reuse.reason = forced ? ReuseReason::kForced : ReuseReason::kFasterToLoad;
  reuse.miss_reason = MissReason::kNone;
}

Explanation EngineImpl::ExplainNow(CacheNamespace& in, const ExplainRequest& request,
                                   const absl::StatusOr<Nearest>& nearest) {
  GenerateRequest asked;
  asked.prompt = request.prompt;
  Sequence probe(0, std::move(asked), {}, parts_.tokenizer);
  probe.cache = &in;
  if (nearest.ok()) {
    probe.embedding = nearest->embedding;
    probe.neighbors = nearest->neighbors;
    const auto top_k = static_cast<size_t>(options_.semantic_top_k);
    if (probe.neighbors.size() > top_k) probe.neighbors.resize(top_k);
    probe.nearest_evicted = nearest->evicted;
  }
  DiskCache::Match disk;
  if (StoreOn()) disk = in.disk.Find(request.prompt);
  const ReuseSnapshot snapshot = SnapshotFor(probe, disk);
  const ReusePlan plan = PlanReuse(snapshot, costs_);
  Explanation explanation;
  const int32_t usable = snapshot.prompt_tokens - 1;
  explanation.host_tokens = std::min(snapshot.memory_tokens, usable);
  explanation.disk_tokens =
      std::min(std::max(snapshot.disk_tokens, snapshot.memory_tokens), usable);
  explanation.ideal_tokens = plan.ideal_tokens;
  explanation.miss_reason = plan.miss_reason;
  explanation.decision = plan.decision;
  explanation.reason = plan.reason;
  explanation.predicted_cold_prefill = plan.predicted_cold_prefill;
  explanation.predicted_warm_prefill = plan.predicted_total;
  explanation.predicted_load = plan.predicted_load;
  explanation.load_bytes = snapshot.load_bytes;
  if (!nearest.ok()) return explanation;
  explanation.nearest = in.prompts.Nearest(nearest->neighbors, request.prompt);
  if (explanation.nearest) {
    explanation.nearest_ids = *in.prompts.Find(explanation.nearest->prompt_id);
  }
  return explanation;
}

}  // namespace reprise
