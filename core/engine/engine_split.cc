// Split loads: a prefix is computed from the front while the reader loads it from the
// back into the sequence's blocks.
#include <algorithm>

#include "core/engine/engine_impl.h"

namespace reprise {

// Where there is no room for all the blocks now, the prompt is computed without the load.
void EngineImpl::StartSplit(const SequencePtr& sequence, const ReusePlan& plan,
                            const DiskCache::Match& disk) {
  std::vector<SegmentRecord> segments;
  for (const SegmentRecord& segment : disk.segments) {
    const auto end = segment.start_position + static_cast<int32_t>(segment.ids.size());
    if (end > plan.memory_tokens && segment.start_position < plan.disk_tokens) {
      segments.push_back(segment);
    }
  }
  const auto split = std::make_shared<SplitLoad>(std::move(segments));
  BeginRunning(sequence, plan.memory_tokens);
  if (!GrowBlocks(*sequence, plan.disk_tokens - sequence->computed)) {
    return DropSplit(sequence->result.reuse, ReuseReason::kSlowerToLoad);
  }
  split->account = std::make_shared<LoadAccount>();
  split->begun = sequence->computed;
  split->end = plan.disk_tokens;
  sequence->split = split;
  ClaimFront(*sequence);
  const int64_t bytes = PayloadBytes(split->segments);
  pending_load_bytes_ += bytes;
  loads_.push_back({split->account, costs_.PredictLoad(bytes)});  // should the reader do it all
  reader_->Post([this, sequence, split] { ReadFromBack(sequence, split); });
}

// On the reader thread: segments from the back, each handed over as it comes.
void EngineImpl::ReadFromBack(const SequencePtr& sequence,
                              const std::shared_ptr<SplitLoad>& split) {
  const absl::Duration start = Now();
  split->account->Begin(start);
  LoadResult load;
  while (const auto index = split->frontier.ClaimBack()) {
    if (split->account->closed()) break;
    const SegmentRecord& record = split->segments[*index];
    const absl::Duration before = Now();
    auto payload =
        std::make_shared<std::vector<uint8_t>>(static_cast<size_t>(record.payload_bytes));
    load.status = parts_.store->ReadSegment(record, absl::MakeSpan(*payload));
    if (!load.status.ok()) {
      split->frontier.Fail(*index);
      load.records = {record};
      break;
    }
    if (!split->account->Add(record.payload_bytes)) break;
    load.bytes += record.payload_bytes;
    load.records.push_back(record);
    parts_.metrics->SegmentRead(record.payload_bytes, Now() - before);
    const absl::Duration elapsed = Now() - start;
    Post([this, sequence, split, index = *index, payload, elapsed] {
      TakeSegment(sequence, *split, index, *payload);
      if (sequence->split == split) sequence->result.reuse.actual_load = elapsed;
    });
  }
  load.elapsed = Now() - start;
  Post([this, sequence, split, load = std::move(load)]() mutable {
    pending_load_bytes_ -= PayloadBytes(split->segments);
    load.given_up = LeaveLoad();
    LearnFromLoad(*sequence->cache, load);
    if (sequence->split == split && split->parked) Unpark(sequence);
  });
}

// One loaded segment into the blocks that wait for it.
void EngineImpl::TakeSegment(const SequencePtr& sequence, SplitLoad& split, size_t index,
                             const std::vector<uint8_t>& payload) {
  if (sequence->split.get() != &split || split.given_up || index + 1 != split.loaded) return;
  const SegmentRecord& record = split.segments[index];
  const auto block_bytes = static_cast<size_t>(parts_.runner->block_bytes());
  const int32_t end =
      std::min(record.start_position + static_cast<int32_t>(record.ids.size()), split.end);
  absl::Status status;
  for (int32_t at = record.start_position; at < end && status.ok(); at += kBlockTokens) {
    const size_t from =
        static_cast<size_t>((at - record.start_position) / kBlockTokens) * block_bytes;
    if (from + block_bytes > payload.size()) status = absl::DataLossError("a short segment");
    if (!status.ok()) break;
    const BlockId block = sequence->blocks[at / kBlockTokens];
    status =
        parts_.runner->WriteBlock(block, absl::MakeConstSpan(payload).subspan(from, block_bytes));
    made_[block] = absl::FromUnixMillis(record.created_unix_ms);
    const int32_t used = end - at;
    if (status.ok() && used < kBlockTokens) status = parts_.runner->CopyBlock(block, block, used);
  }
  if (!status.ok()) return split.frontier.Fail(index);
  split.loaded = index;
  if (split.parked) Unpark(sequence);
}

// Claims what the sequence computes next. False: nothing is left.
bool EngineImpl::ClaimFront(Sequence& sequence) {
  SplitLoad& split = *sequence.split;
  const auto most = static_cast<size_t>(options_.max_batch_tokens / kSegmentTokens);
  const size_t claimed = split.frontier.ClaimFront(most);
  if (claimed == 0) return false;
  split.front += claimed;
  const SegmentRecord& last = split.segments[split.front - 1];
  split.front_end =
      std::min(last.start_position + static_cast<int32_t>(last.ids.size()), split.end);
  return true;
}

// Before a step: split sequences that have computed what they claimed claim more, pass over
// what was loaded, or wait for the segment that is being loaded.
void EngineImpl::AdvanceSplits() {
  const std::vector<SequencePtr> running = running_;
  for (const SequencePtr& sequence : running) {
    const std::shared_ptr<SplitLoad> split = sequence->split;
    if (split == nullptr || sequence->computed < split->front_end) continue;
    if (ClaimFront(*sequence)) continue;
    if (split->loaded == split->front) {
      PassLoaded(*sequence);
    } else {
      split->parked = true;
      sequence->load_started = Now();
      sequence->state = SequenceState::kLoading;
      std::erase(running_, sequence);
      waiting_.push_back(sequence);
    }
  }
}

// The two have met: what was loaded counts as computed from now on.
void EngineImpl::PassLoaded(Sequence& sequence) {
  SplitLoad& split = *sequence.split;
  const int32_t loaded = std::max(split.end - sequence.computed, 0);
  Reuse& reuse = sequence.result.reuse;
  reuse.split_tokens = sequence.computed - split.begun;
  reuse.disk_tokens += loaded;
  sequence.computed += loaded;
  sequence.prompt_reached = std::max(sequence.prompt_reached, sequence.computed);
  if (loaded > 0) {
    const absl::Time made = made_[sequence.blocks[(sequence.computed - 1) / kBlockTokens]];
    reuse.entry_age = std::max(parts_.clock->Now() - made, absl::ZeroDuration());
    PayloadCodec codec = PayloadCodec::kRaw;  // the one that loses most
    for (size_t i = split.loaded; i < split.segments.size(); ++i) {
      codec = std::max(codec, split.segments[i].codec);
    }
    reuse.disk_codec = PayloadCodecName(codec);
  } else {
    DropSplit(reuse,
              split.frontier.failed() ? ReuseReason::kLoadFailed : ReuseReason::kSlowerToLoad);
  }
  EndSplit(sequence);
  if (sequence.caches() && IsAwaited(sequence)) Publish(sequence);
}

// Nothing was loaded after all.
void EngineImpl::DropSplit(Reuse& reuse, ReuseReason reason) {
  reuse.decision = reuse.host_tokens > 0 ? ReuseDecision::kPartial : ReuseDecision::kRecomputed;
  reuse.reason = reason;
}

// Goes on once the last load has come, or has failed: then there is more to compute.
void EngineImpl::Unpark(const SequencePtr& sequence) {
  EndParking(*sequence);
  sequence->state = SequenceState::kRunning;
  waiting_.remove(sequence);
  InsertRunning(sequence);
}

void EngineImpl::EndParking(Sequence& sequence) {
  if (!sequence.split->parked) return;
  sequence.split->parked = false;
  const absl::Duration exposed = Now() - sequence.load_started;
  sequence.result.timings.load += exposed;
  sequence.prefill_started += exposed;
}

// Also of one that is preempted or ends: what the reader still brings is dropped.
void EngineImpl::EndSplit(Sequence& sequence) {
  if (sequence.split == nullptr) return;
  EndParking(sequence);
  sequence.result.reuse.disk_bytes_read += sequence.split->account->Close();
  sequence.split = nullptr;
}

// The reader stalls: what it has not brought yet is computed.
void EngineImpl::GiveUpSplit(const SequencePtr& sequence) {
  SplitLoad& split = *sequence->split;
  split.given_up = true;
  if (split.loaded > split.front) split.frontier.Fail(split.loaded - 1);
  if (split.parked) Unpark(sequence);
}

int64_t EngineImpl::PayloadBytes(const std::vector<SegmentRecord>& segments) {
  int64_t bytes = 0;
  for (const SegmentRecord& segment : segments) bytes += segment.payload_bytes;
  return bytes;
}

}  // namespace reprise
