#include "core/engine/prompt_lookup.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace reprise {
namespace {

std::vector<TokenId> Ids(const std::string& text) { return {text.begin(), text.end()}; }

std::string Text(const std::vector<TokenId>& ids) { return {ids.begin(), ids.end()}; }

TEST(PromptLookupTest, ProposesWhatFollowedTheLongestNgramWhereItStoodLast) {
  struct Case {
    const char* ids;
    int32_t min_ngram, max_ngram, limit;
    const char* draft;
  };
  for (const Case& c : {Case{"abcdeXab", 2, 4, 3, "cde"},        // once before
                        Case{"abcdeXab", 3, 4, 3, ""},           // but only two ids of it
                        Case{"abcdeXab", 2, 4, 1, "c"},          // the limit
                        Case{"ab1Xab2Xab", 2, 4, 1, "2"},        // three ids of it
                        Case{"ab1Yab2Xab", 2, 4, 2, "2X"},       // the last occurrence
                        Case{"Zab1Yab2Xab3Zab", 2, 4, 2, "1Y"},  // a longer one goes before it
                        Case{"Zab1Yab2Xab3Zab", 1, 2, 2, "3Z"},  // unless it is too long
                        Case{"xabcabc", 2, 4, 8, "abcabcab"},    // runs on into itself
                        Case{"aa", 1, 4, 4, "aaaa"},             // a period of one
                        Case{"ab", 1, 4, 4, ""},                 // nothing stands twice
                        Case{"abcab", 2, 4, 0, ""},              // no room
                        Case{"a", 1, 1, 4, ""}, Case{"", 1, 4, 4, ""}}) {
    PromptLookup lookup({c.min_ngram, c.max_ngram, 8});
    const std::vector<TokenId> ids = Ids(c.ids);
    EXPECT_EQ(Text(lookup.Propose(ids, c.limit)), c.draft) << c.ids << " " << c.max_ngram;
  }
}

// The same by looking through all ids.
std::vector<TokenId> Scan(const std::vector<TokenId>& ids, const PromptLookupOptions& options) {
  const auto size = static_cast<int32_t>(ids.size());
  for (int32_t n = std::min(options.max_ngram, size); n >= options.min_ngram; --n) {
    for (int32_t end = size - 1; end >= n; --end) {
      if (!std::equal(ids.begin() + end - n, ids.begin() + end, ids.end() - n)) continue;
      std::vector<TokenId> text = ids;
      for (int32_t i = 0; i < options.max_draft_tokens; ++i) text.push_back(text[end + i]);
      return {text.begin() + size, text.end()};
    }
  }
  return {};
}

TEST(PromptLookupTest, GrowingSequenceGetsTheDraftsThatAScanWouldFind) {
  const PromptLookupOptions options{2, 4, 6};
  for (const int alphabet : {2, 5, 40}) {
    PromptLookup lookup(options);
    std::mt19937 random(alphabet);
    std::vector<TokenId> ids;
    int found = 0;
    while (ids.size() < 400) {
      for (uint32_t i = random() % 3; i > 0; --i)
        ids.push_back(static_cast<TokenId>(random() % alphabet));
      const std::vector<TokenId> draft = lookup.Propose(ids, options.max_draft_tokens);
      ASSERT_EQ(draft, Scan(ids, options)) << ids.size();
      found += draft.empty() ? 0 : 1;
    }
    EXPECT_GT(found, 10) << alphabet;
  }
}

TEST(PromptLookupTest, OptionsOutOfRangeAreRefusedNamingFieldValueAndLimit) {
  struct Case {
    PromptLookupOptions options;
    const char* message;
  };
  for (const Case& c :
       {Case{{0, 4, 8}, "speculation.min_ngram: 0, expected 1 to 4"},
        Case{{5, 4, 8}, "speculation.min_ngram: 5, expected 1 to 4"},
        Case{{1, 17, 8}, "speculation.max_ngram: 17, expected 1 to 16"},
        Case{{1, 0, 8}, "speculation.max_ngram: 0, expected 1 to 16"},
        Case{{2, 4, 0}, "speculation.max_draft_tokens: 0, expected 1 to 256"},
        Case{{2, 4, 257}, "speculation.max_draft_tokens: 257, expected 1 to 256"}}) {
    const absl::Status status = CheckPromptLookup(c.options);
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_EQ(status.message(), c.message);
  }
  EXPECT_TRUE(CheckPromptLookup({1, kMaxNgram, kMaxDraftTokens}).ok());
  EXPECT_TRUE(CheckPromptLookup({}).ok());
}

TEST(DraftPaceTest, LengthFollowsWhatWasAccepted) {
  DraftPace pace(8);
  struct Draft {
    int32_t drafted, accepted, next;
  };
  EXPECT_EQ(pace.NextLength(), 8);
  for (const Draft& d : {Draft{8, 8, 8}, Draft{8, 2, 3}, Draft{3, 3, 6}, Draft{6, 6, 8},
                         Draft{8, 7, 8}, Draft{2, 2, 8}, Draft{8, 1, 2}, Draft{2, 1, 2}}) {
    pace.Observe(d.drafted, d.accepted);
    EXPECT_EQ(pace.NextLength(), d.next) << d.drafted << " " << d.accepted;
  }
}

TEST(DraftPaceTest, MissesInARowPauseForTwiceAsLongEachUntilSomethingIsAccepted) {
  DraftPace pace(8);
  const auto pause_after = [&](int32_t accepted) {
    pace.Observe(4, accepted);
    int steps = 0;
    while (pace.NextLength() == 0) ++steps;
    return steps;
  };
  for (const int steps : {1, 2, 4, 8, 16, 32, 32}) EXPECT_EQ(pause_after(0), steps);
  EXPECT_EQ(pause_after(1), 0);
  EXPECT_EQ(pause_after(0), 1);
}

TEST(ShareDraftRowsTest, RowsAreSharedEvenlyAndNoneIsGivenTwice) {
  struct Case {
    std::vector<int32_t> wanted;
    int32_t rows;
    std::vector<int32_t> granted;
  };
  for (const Case& c : {Case{{8, 8}, 32, {8, 8}}, Case{{8, 8}, 8, {4, 4}}, Case{{8, 8}, 7, {4, 3}},
                        Case{{1, 8, 8}, 9, {1, 4, 4}}, Case{{8, 8, 8}, 2, {1, 1, 0}},
                        Case{{8}, 0, {0}}, Case{{8, 3}, -4, {0, 0}}, Case{{}, 5, {}}}) {
    EXPECT_EQ(ShareDraftRows(c.wanted, c.rows), c.granted) << c.rows;
  }
}

}  // namespace
}  // namespace reprise
