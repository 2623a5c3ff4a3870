#include "core/engine/write_admission.h"

#include <utility>

namespace reprise {
namespace {

constexpr size_t kMaxSeen = 1 << 16;            // of each generation; 32 bytes each
constexpr size_t kMaxDeferredTokens = 1 << 22;  // four bytes each
constexpr size_t kMaxDeferredPrompts = 1 << 14;

}  // namespace

WriteAdmission::Decision WriteAdmission::Decide(const SegmentKey& key, absl::Duration compute,
                                                absl::Duration load) {
  if (load >= compute) return Decision::kNever;
  if (seen_.contains(key) || seen_before_.contains(key)) return Decision::kNow;
  if (seen_.size() >= kMaxSeen) seen_before_ = std::exchange(seen_, {});
  seen_.insert(key);
  return Decision::kWhenIdle;
}

bool WriteAdmission::Defer(std::vector<TokenId> ids) {
  deferred_tokens_ += ids.size();
  deferred_.push_back(std::move(ids));
  bool all_wait = true;
  while (deferred_tokens_ > kMaxDeferredTokens || deferred_.size() > kMaxDeferredPrompts) {
    TakeDeferred();
    all_wait = false;
  }
  return all_wait;
}

std::optional<std::vector<TokenId>> WriteAdmission::TakeDeferred() {
  if (deferred_.empty()) return std::nullopt;
  std::vector<TokenId> ids = std::move(deferred_.front());
  deferred_.pop_front();
  deferred_tokens_ -= ids.size();
  return ids;
}

}  // namespace reprise
