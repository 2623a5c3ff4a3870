#include "core/engine/prompt_lookup.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

absl::Status CheckRange(const char* field, int32_t value, int32_t low, int32_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("speculation.", field, ": ", value, ", expected ", low, " to ", high));
}

// Hashes of the n-grams that end at the end of `ids`, for n = 1, 2 ... `longest`, as far as
// there are ids. FNV-1a.
class SuffixHashes {
 public:
  SuffixHashes(absl::Span<const TokenId> ids, int32_t longest) {
    uint64_t hash = 0xcbf29ce484222325;
    const int32_t count = std::min(longest, static_cast<int32_t>(ids.size()));
    for (int32_t n = 1; n <= count; ++n) {
      hash = (hash ^ static_cast<uint32_t>(ids[ids.size() - n])) * 0x100000001b3;
      hashes_[n] = hash;
    }
    longest_ = count;
  }
  int32_t longest() const { return longest_; }
  uint64_t operator[](int32_t n) const { return hashes_[n]; }

 private:
  int32_t longest_ = 0;
  uint64_t hashes_[kMaxNgram + 1];
};

}  // namespace

absl::Status CheckPromptLookup(const PromptLookupOptions& options) {
  RETURN_IF_ERROR(CheckRange("max_ngram", options.max_ngram, 1, kMaxNgram));
  RETURN_IF_ERROR(CheckRange("min_ngram", options.min_ngram, 1, options.max_ngram));
  return CheckRange("max_draft_tokens", options.max_draft_tokens, 1, kMaxDraftTokens);
}

// An n-gram is entered once an id follows it, so the one that `ids` end with is not yet.
void PromptLookup::Index(absl::Span<const TokenId> ids) {
  const auto size = static_cast<int32_t>(ids.size());
  for (; indexed_ < size; ++indexed_) {
    const SuffixHashes hashes(ids.subspan(0, indexed_), options_.max_ngram);
    for (int32_t n = options_.min_ngram; n <= hashes.longest(); ++n) {
      follows_[hashes[n]] = indexed_;
    }
  }
}

std::vector<TokenId> PromptLookup::Propose(absl::Span<const TokenId> ids, int32_t limit) {
  Index(ids);
  const SuffixHashes hashes(ids, options_.max_ngram);
  std::vector<TokenId> draft;
  for (int32_t n = hashes.longest(); n >= options_.min_ngram; --n) {
    const auto found = follows_.find(hashes[n]);
    if (found == follows_.end() || found->second < n) continue;
    const auto from = static_cast<size_t>(found->second);
    if (ids.subspan(from - n, n) != ids.subspan(ids.size() - n)) continue;  // hashes collide
    for (size_t at = from; static_cast<int32_t>(draft.size()) < limit; ++at) {
      draft.push_back(at < ids.size() ? ids[at] : draft[at - ids.size()]);
    }
    return draft;
  }
  return draft;
}

int32_t DraftPace::NextLength() {
  if (pause_left_ == 0) return length_;
  --pause_left_;
  return 0;
}

void DraftPace::Observe(int32_t drafted, int32_t accepted) {
  length_ = std::min(accepted == drafted ? 2 * length_ : accepted + 1, maximum_);
  pause_ = accepted > 0 ? 0 : std::clamp(2 * pause_, 1, kLongestPause);
  pause_left_ = pause_;
}

std::vector<int32_t> ShareDraftRows(absl::Span<const int32_t> wanted, int32_t rows) {
  std::vector<int32_t> granted;
  auto sharers = static_cast<int32_t>(wanted.size());
  for (const int32_t want : wanted) {
    granted.push_back(std::clamp((rows + sharers - 1) / sharers, 0, want));
    rows -= granted.back();
    --sharers;
  }
  return granted;
}

}  // namespace reprise
