// The operators' API end to end: what fills a cache, from prompts and from archives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "tests/integration/admin_fixture.h"

namespace reprise {
namespace {

namespace wire = admin::v1;
using ::testing::HasSubstr;

TEST_F(AdminTest, WarmMakesTheFirstRequestAHit) {
  Warm({1, 2});
  EXPECT_EQ(Reused(1), 99);
  EXPECT_EQ(Reused(3), 0);
  wire::WarmCacheRequest twice;
  twice.add_prompts()->set_text(Text(1));
  const auto again = client_.WarmCache(twice);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->computed_token_count(), 1) << "what is cached is not computed again";
}

TEST(WarmCacheTest, StoresWhateverTheServersPolicyForRequestsIs) {
  TestServerOptions options;
  options.cache_policy = CachePolicy::kReadOnly;
  options.engine.write_selectively = true;
  TestServer server(options);
  wire::WarmCacheRequest request;
  request.add_prompts()->set_text(Text(1));
  wire::WarmCacheResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(server.admin().WarmCache(&context, request, &response).ok());
  EXPECT_EQ(response.durable_token_count(), 100);
}

TEST_F(AdminTest, AnArchiveGivesTheSameDepthToAnotherTenant) {
  Warm({1, 2, 12});
  std::string digest;
  const std::string archive = Export(digest);
  for (const size_t piece : {size_t{1000}, archive.size()}) {
    const auto reply = Import(archive, "bob", piece, digest);
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->entry_count(), 3);
    EXPECT_EQ(reply->digest(), digest);
    wire::ListCacheEntriesRequest list;
    list.set_tenant("bob");
    EXPECT_EQ(List(list).size(), 3u);
    wire::ExplainCacheLookupRequest explain;
    explain.set_tenant("bob");
    explain.mutable_prompt()->set_text(Text(12));
    EXPECT_EQ(client_.ExplainCacheLookup(explain)->explanation().disk_token_count(), 99);
  }
  EXPECT_EQ(Import(archive, "bob", archive.size())->added_token_count(), 0) << "all is there";
}

TEST_F(AdminTest, ADamagedArchiveIsRefusedAndNothingOfTheDamagedEntryKept) {
  Warm({1, 2});
  std::string digest;
  const std::string archive = Export(digest);
  const size_t header = 48, end = 41, entry = (archive.size() - header - end) / 2;
  const auto listed = [this] {
    wire::ListCacheEntriesRequest list;
    list.set_tenant("bob");
    return List(list);
  };
  for (size_t at = 0; at < archive.size(); at += archive.size() / 40 + 1) {
    std::string damaged = archive;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    EXPECT_FALSE(Import(damaged, "bob", 4096).ok()) << at;
    EXPECT_FALSE(Import(archive.substr(0, at), "bob", 4096).ok()) << "cut off at " << at;
    const std::vector<wire::CacheEntry> kept = listed();
    EXPECT_EQ(kept.size(), at < header ? 0 : (at - header) / entry) << "whole before " << at;
    for (const wire::CacheEntry& each : kept) EXPECT_EQ(each.disk_token_count(), 100);
  }
  EXPECT_TRUE(absl::IsDataLoss(Import(archive + "x", "bob", 4096).status()));
  EXPECT_TRUE(absl::IsDataLoss(Import(archive, "bob", 4096, std::string(64, 'a')).status()));
}

TEST_F(AdminTest, AFileOfPromptsWarmsAndErrorsNameItsLine) {
  const std::string path = absl::StrCat(testing::TempDir(), "/warm.", getpid());
  const auto warm = [&](const std::string& text) {
    std::ofstream(path) << text;
    return server_.Warm(path);
  };
  const std::string prompt = "{\"prompts\": [{\"text\": \"" + Text(4) + "\"}]}\n";
  EXPECT_TRUE(warm(prompt + "\n{\"tenant\": \"bob\", \"prompts\": [{\"token_ids\": {\"ids\": "
                            "[1, 2, 3]}}]}\n")
                  .ok());
  EXPECT_EQ(Reused(4), 99);
  EXPECT_THAT(std::string(warm("\n{\"prompt\": 1}\n").message()), HasSubstr(path + ":2: not a"));
  EXPECT_THAT(std::string(warm("{\"prompts\": [{}]}\n").message()), HasSubstr(path + ":1: "));
  EXPECT_THAT(std::string(server_.Warm("/no/such").message()), HasSubstr("/no/such: cannot be"));
  unlink(path.c_str());
}

}  // namespace
}  // namespace reprise
