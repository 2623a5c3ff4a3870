#include "client/cache_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace reprise::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(CacheFormatTest, AnEntryIsOneRowWithoutControlCharacters) {
  admin::v1::CacheEntry entry;
  entry.set_entry_id("h-1-abc");
  entry.set_token_count(7);
  entry.set_pinned(true);
  entry.set_text_preview("two\nlines \x1b[31m");
  const std::string text = EntriesText({entry});
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << "header, rule, row";
  EXPECT_THAT(text, HasSubstr("two lines"));
  EXPECT_THAT(text, HasSubstr("yes"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST(CacheFormatTest, NamespacesAreShownOnceThereAreSeveral) {
  admin::v1::GetCacheStatsResponse stats;
  stats.add_namespaces()->set_name("default");
  EXPECT_EQ(NamespacesText(stats), "");
  auto& alice = *stats.add_namespaces();
  alice.set_name("alice");
  alice.set_max_host_bytes(3 << 20);
  EXPECT_THAT(NamespacesText(stats), HasSubstr("3.0"));
}

TEST(CacheFormatTest, ADryRunSaysHowToGoOn) {
  admin::v1::PurgeCacheEntriesResponse response;
  response.set_match_count(4);
  EXPECT_THAT(PurgeText(response, false), HasSubstr("4 entries would go; --force"));
  response.set_purged_disk_token_count(9);
  EXPECT_THAT(PurgeText(response, true), HasSubstr("9 from the store"));
}

}  // namespace
}  // namespace reprise::client
