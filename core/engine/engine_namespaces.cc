#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/engine/engine_impl.h"

namespace reprise {

absl::StatusOr<size_t> EngineImpl::SpecOf(const std::string& tenant) const {
  if (spec_of_tenant_.empty()) return 0;  // one namespace for all
  const auto found = spec_of_tenant_.find(tenant);
  if (found != spec_of_tenant_.end()) return found->second;
  return absl::PermissionDeniedError(
      absl::StrCat("tenant: \"", tenant, "\" has no cache namespace; expected one of tenants"));
}

int32_t EngineImpl::QuotaBlocks(const NamespaceSpec& spec) const {
  if (spec.quota.host_bytes == 0) return 0;
  const int64_t blocks = spec.quota.host_bytes / parts_.runner->block_bytes();
  return static_cast<int32_t>(std::clamp<int64_t>(blocks, 1, parts_.runner->num_blocks()));
}

absl::Status EngineImpl::CheckQuota(const NamespaceSpec& spec, int32_t needed_blocks) const {
  const int32_t limit = QuotaBlocks(spec);
  if (limit == 0 || needed_blocks <= limit) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("prompt and output need ", needed_blocks * parts_.runner->block_bytes(),
                   " bytes of KV, expected at most ", spec.quota.host_bytes,
                   ", which tenants[].max_host_bytes allows ", spec.name));
}

CacheNamespace& EngineImpl::Open(size_t spec) {
  std::unique_ptr<CacheNamespace>& in = namespaces_[spec];
  if (in != nullptr) return *in;
  const NamespaceSpec& made = parts_.namespaces[spec];
  in = std::make_unique<CacheNamespace>(blocks_.AddNamespace(QuotaBlocks(made)), &made,
                                        options_.eviction);
  in->disk.SetCosts(disk_costs_);
  by_identity_[made.identity] = in.get();
  if (parts_.new_vectors) in->vectors = parts_.new_vectors();
  return *in;
}

// Of an identity that is configured.
CacheNamespace& EngineImpl::NamespaceOf(const Digest& identity) {
  const auto known = by_identity_.find(identity);
  if (known != by_identity_.end()) return *known->second;
  size_t spec = 0;
  while (parts_.namespaces[spec].identity != identity) ++spec;
  return Open(spec);
}

void EngineImpl::ForEachNamespace(absl::FunctionRef<void(CacheNamespace&)> visit) const {
  for (const auto& in : namespaces_) {
    if (in != nullptr) visit(*in);
  }
}

// The one of which `size` is most; null: it is zero of all.
CacheNamespace* EngineImpl::Largest(absl::FunctionRef<int64_t(const CacheNamespace&)> size) const {
  CacheNamespace* largest = nullptr;
  int64_t most = 0;
  ForEachNamespace([&](CacheNamespace& in) {
    const int64_t bytes = size(in);
    if (bytes <= most) return;
    most = bytes;
    largest = &in;
  });
  return largest;
}

int64_t EngineImpl::DiskPayloadBytes() const {
  int64_t bytes = 0;
  ForEachNamespace([&](const CacheNamespace& in) { bytes += in.disk.payload_bytes(); });
  return bytes;
}

// Blocks that it may come to hold, the copy of one used in part included.
int32_t EngineImpl::MostBlocks(const Sequence& sequence) {
  return BlocksFor(sequence.prompt_size() + sequence.request.max_output_tokens) + 1;
}

// Pinned blocks that it holds or, while it is queued, is sure to share: they are there already.
int32_t EngineImpl::PinnedBlocks(const Sequence& sequence) const {
  if (blocks_.num_pinned(sequence.cache->id) == 0) return 0;
  if (sequence.state != SequenceState::kQueued) {
    return static_cast<int32_t>(
        std::count_if(sequence.blocks.begin(), sequence.blocks.end(),
                      [this](BlockId block) { return blocks_.IsPinned(block); }));
  }
  const bool sure = sequence.looks_up() && ModeOf(sequence) != RetrievalMode::kSemantic &&
                    CachedTokens(sequence) >= sequence.request.minimum_reuse_tokens;
  if (!sure) return 0;
  const int32_t usable = (sequence.prompt_size() - 1) / kBlockTokens;
  return std::min(blocks_.PinnedPrefix(sequence.cache->id, sequence.request.prompt), usable);
}

// Blocks that it may come to hold beside pinned ones.
int32_t EngineImpl::MostUnpinned(const Sequence& sequence) const {
  return MostBlocks(sequence) - PinnedBlocks(sequence);
}

// What the namespace's sequences may come to hold, and its pins.
int32_t EngineImpl::PromisedBlocks(const CacheNamespace& in) const {
  int32_t promised = blocks_.num_pinned(in.id);
  const auto add = [&](const SequencePtr& sequence) {
    if (sequence->cache == &in) promised += MostUnpinned(*sequence);
  };
  std::for_each(running_.begin(), running_.end(), add);
  std::for_each(waiting_.begin(), waiting_.end(), add);
  return promised;
}

// Whether its tenant's quota has room for all that it may come to hold, beside all that the
// tenant's others may: so that none of them ever has to wait for a block in mid-course.
bool EngineImpl::HasQuotaFor(const Sequence& sequence) const {
  const int32_t limit = blocks_.max_blocks(sequence.cache->id);
  return limit == 0 || PromisedBlocks(*sequence.cache) + MostUnpinned(sequence) <= limit;
}

// Of the pool and of its tenant's quota: what it could come to hold beside pinned blocks if it
// ran alone.
int32_t EngineImpl::LeftByPins(const Sequence& sequence) const {
  const NamespaceId in = sequence.cache->id;
  const int32_t of_pool = blocks_.num_blocks() - blocks_.num_pinned();
  if (blocks_.max_blocks(in) == 0) return of_pool;
  return std::min(of_pool, blocks_.max_blocks(in) - blocks_.num_pinned(in));
}

// Whether what was taken up can go on to its end: in a quota all together, in the pool, where
// younger ones give way, each.
bool EngineImpl::KeepsPromises() const {
  const auto fits = [this](const SequencePtr& sequence) {
    const bool taken_up = sequence->state != SequenceState::kQueued || sequence->looked_up;
    return !taken_up || MostUnpinned(*sequence) <= LeftByPins(*sequence);
  };
  bool kept = std::all_of(running_.begin(), running_.end(), fits) &&
              std::all_of(waiting_.begin(), waiting_.end(), fits) &&
              std::all_of(queued_.begin(), queued_.end(), fits);
  ForEachNamespace([&](const CacheNamespace& in) {
    const int32_t limit = blocks_.max_blocks(in.id);
    kept = kept && (limit == 0 || PromisedBlocks(in) <= limit);
  });
  return kept;
}

// A pin that would leave less than running requests may need is taken back.
absl::Status EngineImpl::PinInMemory(const CacheNamespace& in, absl::Span<const TokenId> ids,
                                     bool pinned) {
  const int32_t before = blocks_.num_pinned();
  RETURN_IF_ERROR(blocks_.SetPinned(in.id, ids, pinned).status());
  const int32_t more = blocks_.num_pinned() - before;
  if (more <= 0 || KeepsPromises()) return absl::OkStatus();
  RETURN_IF_ERROR(blocks_.SetPinned(in.id, ids, false).status());
  return absl::ResourceExhaustedError(
      absl::StrCat("pinned: ", more, " more KV blocks beside ", before,
                   ", expected as many as leave running requests what they may come to need"));
}

// Pins leave too little for it: it would wait for ever, and others behind it.
void EngineImpl::RefuseWhatPinsShutOut() {
  if (blocks_.num_pinned() == 0) return;
  std::vector<SequencePtr> shut_out;
  for (const SequencePtr& sequence : queued_) {
    const int32_t left = LeftByPins(*sequence);
    if (MostBlocks(*sequence) > left && MostUnpinned(*sequence) > left) {
      shut_out.push_back(sequence);
    }
  }
  for (const SequencePtr& sequence : shut_out) {
    Finish(sequence, absl::ResourceExhaustedError(
                         absl::StrCat("prompt and output need ", MostUnpinned(*sequence),
                                      " KV blocks, expected at most ", LeftByPins(*sequence),
                                      ", which pinned entries leave of the pool or the tenant's "
                                      "quota")));
  }
}

NamespaceStats EngineImpl::StatsOf(const CacheNamespace& in) const {
  const int64_t block_bytes = parts_.runner->block_bytes();
  NamespaceStats stats;
  stats.name = in.spec->name;
  stats.tenants = in.spec->tenants;
  stats.quota = in.spec->quota;
  stats.host_bytes = blocks_.num_held(in.id) * block_bytes;
  stats.host_cached_bytes = blocks_.num_cached(in.id) * block_bytes;
  stats.host_cached_tokens = blocks_.cached_tokens(in.id);
  stats.host_pinned_bytes = blocks_.num_pinned(in.id) * block_bytes;
  stats.disk_bytes = in.disk.payload_bytes();
  stats.disk_segments = static_cast<int64_t>(in.disk.size());
  stats.disk_cached_tokens = in.disk.cached_tokens();
  stats.pending_bytes = in.pending_bytes;
  stats.prompt_count = static_cast<int64_t>(in.prompts.size());
  stats.vector_count = in.vectors != nullptr ? in.vectors->size() : 0;
  return stats;
}

void EngineImpl::PublishNamespaces() {
  std::vector<NamespaceGauges> gauges;
  ForEachNamespace([&](const CacheNamespace& in) {
    const NamespaceStats stats = StatsOf(in);
    gauges.push_back({stats.name, stats.host_bytes, stats.quota.host_bytes, stats.disk_bytes,
                      stats.quota.disk_bytes});
  });
  parts_.metrics->SetNamespaceGauges(gauges);
}

}  // namespace reprise
