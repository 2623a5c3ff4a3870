#include "core/store/segment_ledger.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"

namespace reprise {
namespace {

// Writing the rest of a file anew must free at least this share of the file.
constexpr double kLeastGain = 0.05;

}  // namespace

uint32_t SegmentLedger::NumberOf(const Digest& identity) {
  // The last is the likeliest: records come ordered by identity.
  if (identities_.empty() || identities_.back() != identity) {
    const auto found = std::find(identities_.begin(), identities_.end(), identity);
    if (found != identities_.end()) return static_cast<uint32_t>(found - identities_.begin());
    identities_.push_back(identity);
  }
  return static_cast<uint32_t>(identities_.size() - 1);
}

void SegmentLedger::TakeFromCohort(const Entry& entry) {
  stored_bytes_ -= entry.stored_bytes;
  const auto cohort = cohorts_.find(entry.cohort);
  if (cohort == cohorts_.end()) return;
  cohort->second.live_bytes -= entry.stored_bytes;
  if (cohort->second.live_bytes <= 0) cohorts_.erase(cohort);
}

void SegmentLedger::Put(const SegmentRecord& record) {
  const auto [it, is_new] = entries_.try_emplace(record.key);
  if (!is_new) TakeFromCohort(it->second);
  it->second = {record.cohort, record.stored_bytes, record.last_used_unix_ms, record.start_position,
                NumberOf(record.identity)};
  stored_bytes_ += record.stored_bytes;
  Cohort& cohort = cohorts_[record.cohort];
  cohort.live_bytes += record.stored_bytes;
  cohort.total_bytes = std::max({cohort.total_bytes, record.cohort_bytes, cohort.live_bytes});
  last_cohort_ = std::max(last_cohort_, record.cohort);
}

void SegmentLedger::Remove(const SegmentKey& key) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return;
  TakeFromCohort(found->second);
  entries_.erase(found);
}

void SegmentLedger::SetLastUsed(const SegmentKey& key, int64_t unix_ms) {
  const auto found = entries_.find(key);
  if (found != entries_.end()) found->second.last_used_unix_ms = unix_ms;
}

const SegmentLedger::Entry* SegmentLedger::Find(const SegmentKey& key) const {
  const auto found = entries_.find(key);
  return found == entries_.end() ? nullptr : &found->second;
}

std::vector<EvictionCandidate> SegmentLedger::Candidates(absl::Span<const Digest> kept) const {
  std::vector<EvictionCandidate> candidates;
  for (const auto& [key, entry] : entries_) {
    if (Contains(kept, identity(entry))) continue;
    candidates.push_back(
        {key, identity(entry), entry.start_position, entry.stored_bytes, entry.last_used_unix_ms});
  }
  return candidates;
}

std::vector<SegmentKey> SegmentLedger::ToRewrite(int64_t max_bytes) const {
  std::vector<std::pair<double, uint64_t>> by_share_alive;
  for (const auto& [number, cohort] : cohorts_) {
    const double alive =
        static_cast<double>(cohort.live_bytes) / static_cast<double>(cohort.total_bytes);
    if (alive <= 1 - kLeastGain) by_share_alive.emplace_back(alive, number);
  }
  std::sort(by_share_alive.begin(), by_share_alive.end());
  absl::flat_hash_set<uint64_t> chosen;
  int64_t bytes = 0;
  for (const auto& [alive, number] : by_share_alive) {
    const int64_t live_bytes = cohorts_.at(number).live_bytes;
    if (bytes + live_bytes > max_bytes) break;
    bytes += live_bytes;
    chosen.insert(number);
  }
  std::vector<SegmentKey> keys;
  if (chosen.empty()) return keys;
  for (const auto& [key, entry] : entries_) {
    if (chosen.contains(entry.cohort)) keys.push_back(key);
  }
  return keys;
}

}  // namespace reprise
