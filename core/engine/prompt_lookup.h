// Prompt lookup: drafts for speculative decoding without a draft model. Where the last few
// ids have stood before, what followed them then is guessed to follow now.
//
// Exactness  a draft is only a guess, which ModelRunner::Step verifies: it costs rows and
//            never changes a reply.
// Threading  not thread-safe; the engine thread owns them.
// Source     Saxena 2023, "Prompt Lookup Decoding". In vLLM (ngram speculator) the fields are
//            prompt_lookup_min, prompt_lookup_max and num_speculative_tokens; in Hugging
//            Face transformers max_draft_tokens is prompt_lookup_num_tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/base/ids.h"

namespace reprise {

inline constexpr int32_t kMaxNgram = 16;
inline constexpr int32_t kMaxDraftTokens = 256;

struct PromptLookupOptions {
  int32_t min_ngram = 2;         // ids that must have stood before; [1, max_ngram]
  int32_t max_ngram = 4;         // looked for first, then shorter ones; [min_ngram, kMaxNgram]
  int32_t max_draft_tokens = 8;  // of one draft; [1, kMaxDraftTokens]
};

// kInvalidArgument naming the field, its value and its range.
absl::Status CheckPromptLookup(const PromptLookupOptions& options);

// The n-grams of one sequence by their last occurrence, kept as it grows: a new id costs
// max_ngram - min_ngram + 1 entries, a draft as many look-ups, whatever the length.
class PromptLookup {
 public:
  // `options` have passed CheckPromptLookup.
  explicit PromptLookup(const PromptLookupOptions& options) : options_(options) {}

  // At most `limit` ids that may follow `ids`, which continue those of the call before: what
  // followed the last occurrence of the longest n-gram that `ids` end with. It runs on into
  // itself, so that a text with a short period gets a long draft. Empty: there is none.
  std::vector<TokenId> Propose(absl::Span<const TokenId> ids, int32_t limit);

 private:
  void Index(absl::Span<const TokenId> ids);

  PromptLookupOptions options_;
  absl::flat_hash_map<uint64_t, int32_t> follows_;  // hash of an n-gram -> what comes after it
  int32_t indexed_ = 0;  // what follows is entered for positions before this one
};

// How long a sequence's next draft may be, from how its last ones went: drafts that miss
// cost rows.
//
// Rule       a draft that was right to its end doubles the length, up to the maximum; any
//            other sets it to one more than what was accepted. A draft of which nothing was
//            accepted is followed by a pause of 1 step, then 2, 4 and so on up to 32 as
//            long as that goes on.
class DraftPace {
 public:
  explicit DraftPace(int32_t max_draft_tokens)
      : maximum_(max_draft_tokens), length_(max_draft_tokens) {}

  // To be asked once a step; 0: none.
  int32_t NextLength();

  // Of `drafted` >= 1 tokens, `accepted` were right.
  void Observe(int32_t drafted, int32_t accepted);

 private:
  static constexpr int32_t kLongestPause = 32;
  int32_t maximum_;
  int32_t length_;
  int32_t pause_ = 0;       // after the last miss
  int32_t pause_left_ = 0;  // steps of it
};

// Shares `rows` among drafts that want so many each: evenly, and what one leaves goes to
// those after it.
std::vector<int32_t> ShareDraftRows(absl::Span<const int32_t> wanted, int32_t rows);

}  // namespace reprise
