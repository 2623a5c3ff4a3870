#include "core/engine/prompt_directory.h"

#include <algorithm>

namespace reprise {

int32_t CommonPrefixTokens(absl::Span<const TokenId> a, absl::Span<const TokenId> b) {
  return static_cast<int32_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first -
                              a.begin());
}

std::optional<uint64_t> PromptDirectory::Add(absl::Span<const TokenId> ids) {
  if (IdOf(ids)) return std::nullopt;
  const uint64_t id = next_id_;
  Restore(id, std::vector<TokenId>(ids.begin(), ids.end()));
  return id;
}

void PromptDirectory::Restore(uint64_t id, std::vector<TokenId> ids) {
  if (prompts_.contains(id) || by_ids_.contains(ids)) return;
  next_id_ = std::max(next_id_, id + 1);
  total_tokens_ += static_cast<int64_t>(ids.size());
  const std::vector<TokenId>& kept = prompts_[id] = std::move(ids);
  by_ids_[kept] = id;
}

void PromptDirectory::Remove(uint64_t id) {
  const auto found = prompts_.find(id);
  if (found == prompts_.end()) return;
  total_tokens_ -= static_cast<int64_t>(found->second.size());
  by_ids_.erase(found->second);
  prompts_.erase(found);
}

std::optional<uint64_t> PromptDirectory::RemoveOldest() {
  if (prompts_.empty()) return std::nullopt;
  const uint64_t id = prompts_.begin()->first;
  Remove(id);
  return id;
}

std::optional<uint64_t> PromptDirectory::IdOf(absl::Span<const TokenId> ids) const {
  const auto found = by_ids_.find(ids);
  if (found == by_ids_.end()) return std::nullopt;
  return found->second;
}

// A beginning stands before what goes on from it, and before it stand only its own: each step
// leaves less to share.
std::vector<uint64_t> PromptDirectory::BeginningsOf(absl::Span<const TokenId> ids) const {
  std::vector<uint64_t> found;
  auto at = by_ids_.upper_bound(ids);
  while (at != by_ids_.begin()) {
    --at;
    const auto common = static_cast<size_t>(CommonPrefixTokens(at->first, ids));
    if (common == at->first.size()) {
      found.push_back(at->second);
    } else {
      ids = ids.first(common);
      at = by_ids_.upper_bound(ids);
    }
  }
  return found;
}

const std::vector<TokenId>* PromptDirectory::Find(uint64_t id) const {
  const auto found = prompts_.find(id);
  return found == prompts_.end() ? nullptr : &found->second;
}

std::optional<Candidate> PromptDirectory::Compare(const Neighbor& neighbor,
                                                  absl::Span<const TokenId> ids) const {
  const std::vector<TokenId>* cached = Find(neighbor.id);
  if (cached == nullptr) return std::nullopt;
  Candidate candidate{neighbor.id, neighbor.similarity, CommonPrefixTokens(ids, *cached), {}};
  const auto common = static_cast<size_t>(candidate.common_tokens);
  if (common < ids.size() && common < cached->size()) {
    candidate.first_divergent_position = candidate.common_tokens;
  }
  return candidate;
}

std::optional<Candidate> PromptDirectory::Nearest(absl::Span<const Neighbor> neighbors,
                                                  absl::Span<const TokenId> ids) const {
  constexpr float kAsNear = 1e-4f;  // what rounding makes of equal texts
  std::optional<Candidate> nearest;
  float best = 0;
  for (const Neighbor& neighbor : neighbors) {
    const auto candidate = Compare(neighbor, ids);
    if (!candidate) continue;
    if (!nearest) best = candidate->similarity;
    if (candidate->similarity < best - kAsNear) break;
    if (!nearest || candidate->common_tokens > nearest->common_tokens) nearest = candidate;
  }
  return nearest;
}

}  // namespace reprise
