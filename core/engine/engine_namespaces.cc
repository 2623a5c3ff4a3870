#include <algorithm>

#include "absl/strings/str_cat.h"
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

// Whether its tenant's quota has room for all that it may come to hold, beside all that the
// tenant's others may: so that none of them ever has to wait for a block in mid-course.
bool EngineImpl::HasQuotaFor(const Sequence& sequence) const {
  const NamespaceId in = sequence.cache->id;
  if (blocks_.max_blocks(in) == 0) return true;
  int32_t promised = blocks_.num_pinned(in);
  const auto add = [&](const SequencePtr& other) {
    if (other->cache == sequence.cache) promised += MostBlocks(*other);
  };
  std::for_each(running_.begin(), running_.end(), add);
  std::for_each(waiting_.begin(), waiting_.end(), add);
  return promised + MostBlocks(sequence) <= blocks_.max_blocks(in);
}

// Pins leave too little of the quota for it: it would wait for ever.
void EngineImpl::RefuseWhatPinsShutOut() {
  std::vector<SequencePtr> shut_out;
  for (const SequencePtr& sequence : queued_) {
    const NamespaceId in = sequence->cache->id;
    const int32_t limit = blocks_.max_blocks(in);
    if (limit == 0 || blocks_.num_pinned(in) + MostBlocks(*sequence) <= limit) continue;
    shut_out.push_back(sequence);
  }
  for (const SequencePtr& sequence : shut_out) {
    const NamespaceId in = sequence->cache->id;
    Finish(sequence,
           absl::ResourceExhaustedError(absl::StrCat(
               "prompt and output need ", MostBlocks(*sequence), " KV blocks, expected at most ",
               blocks_.max_blocks(in) - blocks_.num_pinned(in),
               ", which pinned entries leave of the tenant's quota")));
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
