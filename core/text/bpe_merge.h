// Byte-pair merging of the symbols of one word.
//
// Source     Sennrich et al. 2016, arXiv 1508.07909.
// Threading  a WordMerger is used once, by one thread; the table is only read.
#pragma once

#include <cstdint>
#include <queue>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/base/ids.h"

namespace reprise {

struct Merge {
  int32_t rank;
  TokenId merged;
};

inline uint64_t PairKey(TokenId left, TokenId right) {
  return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
}

// A word being merged: a list of symbols linked over an array, with a queue of
// possible merges, so that a word of n bytes costs O(n log n).
class WordMerger {
 public:
  WordMerger(const absl::flat_hash_map<uint64_t, Merge>& merges, std::vector<TokenId> symbols)
      : merges_(merges),
        symbols_(std::move(symbols)),
        next_(symbols_.size()),
        prev_(symbols_.size()) {
    for (size_t i = 0; i < symbols_.size(); ++i) {
      next_[i] = static_cast<int32_t>(i) + 1;
      prev_[i] = static_cast<int32_t>(i) - 1;
    }
    for (size_t i = 0; i + 1 < symbols_.size(); ++i) Offer(static_cast<int32_t>(i));
  }

  void Run(std::vector<TokenId>& out) {
    while (!queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      if (IsStale(best)) continue;
      Apply(best);
    }
    for (size_t i = 0; i < symbols_.size(); i = next_[i]) out.push_back(symbols_[i]);
  }

 private:
  struct Candidate {
    int32_t rank;
    int32_t at;
    TokenId left, right, merged;
    bool operator<(const Candidate& other) const {  // best rank on top, then leftmost
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };

  bool AtEnd(int32_t i) const { return i >= static_cast<int32_t>(symbols_.size()); }

  bool IsStale(const Candidate& c) const {
    return symbols_[c.at] != c.left || AtEnd(next_[c.at]) || symbols_[next_[c.at]] != c.right;
  }

  void Offer(int32_t at) {
    if (at < 0 || AtEnd(next_[at])) return;
    const auto found = merges_.find(PairKey(symbols_[at], symbols_[next_[at]]));
    if (found == merges_.end()) return;
    queue_.push({found->second.rank, at, symbols_[at], symbols_[next_[at]], found->second.merged});
  }

  void Apply(const Candidate& c) {
    const int32_t gone = next_[c.at];
    symbols_[c.at] = c.merged;
    symbols_[gone] = kGone;
    next_[c.at] = next_[gone];
    if (!AtEnd(next_[gone])) prev_[next_[gone]] = c.at;
    Offer(prev_[c.at]);
    Offer(c.at);
  }

  static constexpr TokenId kGone = -1;
  const absl::flat_hash_map<uint64_t, Merge>& merges_;
  std::vector<TokenId> symbols_;
  std::vector<int32_t> next_, prev_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace reprise
