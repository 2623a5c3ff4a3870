// The operators' API end to end: what it shows is what is there, and what it does holds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <set>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "tests/integration/test_server.h"

namespace reprise {
namespace {

namespace wire = admin::v1;
using ::testing::HasSubstr;

// A hundred letters that begin with `number`.
std::string Text(int number) {
  std::string text = absl::StrCat(number, " ");
  while (text.size() < 100) text += static_cast<char>('a' + (text.size() * 7 + number) % 26);
  return text;
}

TestServerOptions Options() {
  TestServerOptions options;
  Digest other;
  other.fill(9);
  options.namespaces = {{"tests", Digest{}, {}, {"tests"}}, {"bob", other, {}, {"bob"}}};
  return options;
}

class AdminTest : public testing::Test {
 protected:
  AdminTest() : server_(Options()) {}

  client::Client Operator() {
    client::ClientOptions options;
    options.address = absl::StrCat("127.0.0.1:", server_.grpc().inference_port());
    options.admin_address = absl::StrCat("127.0.0.1:", server_.grpc().admin_port());
    return client::Client(options);
  }

  void Warm(const std::vector<int>& numbers, const std::string& tenant = "") {
    wire::WarmCacheRequest request;
    request.set_tenant(tenant);
    for (const int number : numbers) request.add_prompts()->set_text(Text(number));
    const auto reply = client_.WarmCache(request);
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->durable_token_count(), reply->prompt_token_count());
    server_.Settle();
  }

  std::vector<wire::CacheEntry> List(wire::ListCacheEntriesRequest request = {}) {
    std::vector<wire::CacheEntry> all;
    while (true) {
      const auto page = client_.ListCacheEntries(request);
      EXPECT_TRUE(page.ok()) << page.status();
      if (!page.ok()) return all;
      all.insert(all.end(), page->entries().begin(), page->entries().end());
      if (page->next_page_token().empty()) return all;
      request.set_page_token(page->next_page_token());
    }
  }

  int32_t Reused(int number) {
    inference::v1::GenerationSpec spec = TextSpec(Text(number), 0);
    spec.mutable_cache()->set_policy(inference::v1::CACHE_POLICY_READ_ONLY);
    const auto reply = client_.Generate(spec);
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? reply->usage().cached_token_count() : -1;
  }

  static wire::CacheEntrySelector EntryOf(int number, const std::string& tenant = "") {
    wire::CacheEntrySelector selector;
    selector.set_tenant(tenant);
    selector.mutable_prompt()->set_text(Text(number));
    return selector;
  }

  std::string Export(std::string& digest) {
    std::string archive;
    const auto last =
        client_.ExportCacheEntries({}, [&](const std::string& data) { archive += data; });
    EXPECT_TRUE(last.ok()) << last.status();
    digest = last->digest();
    return archive;
  }

  absl::StatusOr<wire::ImportCacheEntriesResponse> Import(const std::string& archive,
                                                          const std::string& tenant, size_t piece,
                                                          const std::string& digest = "") {
    wire::ImportCacheEntriesRequest first;
    first.set_tenant(tenant);
    first.set_digest(digest);
    size_t at = 0;
    return client_.ImportCacheEntries(first, [&] {
      const std::string data = archive.substr(std::min(at, archive.size()), piece);
      at += piece;
      return data;
    });
  }

  TestServer server_;
  client::Client client_ = Operator();
};

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

TEST_F(AdminTest, PagesOfAnySizeListEachEntryOnceAndThoseEvictedLastFirst) {
  Warm({1, 2, 3, 4, 5, 6, 7});
  Warm({1, 2}, "bob");
  EXPECT_EQ(Reused(3), 99);  // and elsewhere than where it led before
  for (const int size : {0, 1, 2, 5, 1000}) {
    wire::ListCacheEntriesRequest request;
    request.set_page_size(size);
    const auto entries = List(request);
    std::set<std::string> ids;
    std::string numbers;
    for (const auto& entry : entries) {
      ids.insert(entry.entry_id() + entry.namespace_name());
      numbers += entry.text_preview().substr(0, 1);
      EXPECT_EQ(entry.token_count(), 100);
      EXPECT_EQ(entry.host_token_count(), 100);
      EXPECT_EQ(entry.disk_token_count(), 100);
      EXPECT_TRUE(entry.has_create_time() && entry.has_last_use_time());
      EXPECT_FALSE(entry.pinned() || entry.has_expire_time());
    }
    EXPECT_EQ(ids.size(), 9u) << size;
    EXPECT_EQ(numbers, "376542121") << "of the caller's, then of bob's";
    ASSERT_FALSE(entries.empty());
    EXPECT_LE(entries[0].text_preview().size(), 80u);
  }
}

TEST_F(AdminTest, WhatMemoryGaveUpIsListedOnceAsTheStoreHasIt) {
  std::vector<int> numbers;
  for (int i = 100; i < 400; ++i) numbers.push_back(i);
  Warm(numbers);
  const auto stats = client_.GetCacheStats();
  ASSERT_TRUE(stats.ok());
  ASSERT_LT(stats->host().cached_token_count(), 25000) << "the pool holds less than all";
  for (const int size : {70, 1000}) {
    wire::ListCacheEntriesRequest request;
    request.set_page_size(size);
    std::set<std::string> texts;
    for (const auto& entry : List(request)) {
      EXPECT_EQ(entry.token_count(), 100) << entry.text_preview();
      EXPECT_EQ(entry.disk_token_count(), 100);
      EXPECT_TRUE(texts.insert(entry.text_preview()).second) << entry.text_preview();
    }
    EXPECT_EQ(texts.size(), 300u);
  }
}

TEST_F(AdminTest, FiltersSelectByTenantTextSizeAndPin) {
  Warm({1, 2, 12});
  Warm({1}, "bob");
  wire::PinCacheEntryRequest pin;
  *pin.mutable_entry() = EntryOf(2);
  pin.set_pinned(true);
  ASSERT_TRUE(client_.PinCacheEntry(pin).ok());
  const auto count = [this](auto set) {
    wire::ListCacheEntriesRequest request;
    set(request);
    return List(request).size();
  };
  EXPECT_EQ(count([](auto&) {}), 4u);
  EXPECT_EQ(count([](auto& r) { r.set_tenant("bob"); }), 1u);
  EXPECT_EQ(count([](auto& r) { r.set_text_prefix("1"); }), 3u);
  EXPECT_EQ(count([](auto& r) { r.set_text_prefix("1 "); }), 2u);
  EXPECT_EQ(count([](auto& r) { r.set_pinned(true); }), 1u);
  EXPECT_EQ(count([](auto& r) { r.set_pinned(false); }), 3u);
  EXPECT_EQ(count([](auto& r) { r.set_min_token_count(101); }), 0u);
}

TEST_F(AdminTest, WhatGoesOnFromAPinnedEntryIsListedAsPinned) {
  Warm({1});
  wire::PinCacheEntryRequest pin;
  *pin.mutable_entry() = EntryOf(1);
  pin.set_pinned(true);
  ASSERT_TRUE(client_.PinCacheEntry(pin).ok());
  // The pin moves along only where a block or a segment is not full.
  ASSERT_TRUE(client_.Generate(TextSpec(Text(1) + std::string(40, 'x'), 0)).ok());
  server_.Settle();
  wire::ListCacheEntriesRequest list;
  list.set_pinned(true);
  const auto entries = List(list);
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].token_count(), 140);
}

TEST_F(AdminTest, BadRequestsAreRefusedByField) {
  Warm({1});
  const auto code = [](const auto& reply) { return reply.status().code(); };
  wire::ListCacheEntriesRequest list;
  list.set_page_size(-1);
  EXPECT_EQ(code(client_.ListCacheEntries(list)), absl::StatusCode::kInvalidArgument);
  for (const char* token : {"x", "1.2.3", "0.0.0.0.0.0", "-1.0.0.0.0", "0.2.0.0.0"}) {
    wire::ListCacheEntriesRequest bad;
    bad.set_page_token(token);
    EXPECT_EQ(code(client_.ListCacheEntries(bad)), absl::StatusCode::kInvalidArgument) << token;
  }
  wire::ListCacheEntriesRequest stranger;
  stranger.set_tenant("mallory");
  EXPECT_EQ(code(client_.ListCacheEntries(stranger)), absl::StatusCode::kPermissionDenied);
  wire::PinCacheEntryRequest pin;
  EXPECT_EQ(code(client_.PinCacheEntry(pin)), absl::StatusCode::kInvalidArgument) << "no entry";
  pin.mutable_entry()->set_entry_id("h-1");
  EXPECT_EQ(code(client_.PinCacheEntry(pin)), absl::StatusCode::kInvalidArgument);
  pin.mutable_entry()->set_entry_id("h-1-000000000000");
  EXPECT_EQ(code(client_.PinCacheEntry(pin)), absl::StatusCode::kNotFound) << "another check";
  pin.mutable_entry()->set_prompt_id(77);
  EXPECT_EQ(code(client_.PinCacheEntry(pin)), absl::StatusCode::kNotFound);
  *pin.mutable_entry() = EntryOf(5);
  EXPECT_EQ(code(client_.PinCacheEntry(pin)), absl::StatusCode::kNotFound);
  pin.mutable_ttl()->set_seconds(1);
  EXPECT_EQ(code(client_.PinCacheEntry(pin)), absl::StatusCode::kUnimplemented);
  wire::SetCacheEntryTtlRequest ttl;
  *ttl.mutable_entry() = EntryOf(1);
  ttl.mutable_ttl()->set_seconds(-1);
  EXPECT_EQ(code(client_.SetCacheEntryTtl(ttl)), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(client_.PurgeCacheEntries({})), absl::StatusCode::kInvalidArgument);
}

TEST_F(AdminTest, PinsAndTtlsAreShownByEveryWayToNameAnEntry) {
  Warm({1, 2});
  const std::vector<wire::CacheEntry> entries = List();
  ASSERT_EQ(entries.size(), 2u);
  wire::CacheEntrySelector by_id, by_prompt_id;
  by_id.set_entry_id(entries[0].entry_id());
  by_prompt_id.set_prompt_id(entries[0].prompt_id());
  EXPECT_NE(entries[0].prompt_id(), 0u);
  for (const wire::CacheEntrySelector& selector : {by_id, by_prompt_id, EntryOf(2)}) {
    wire::PinCacheEntryRequest pin;
    *pin.mutable_entry() = selector;
    for (const bool pinned : {true, false}) {
      pin.set_pinned(pinned);
      const auto reply = client_.PinCacheEntry(pin);
      ASSERT_TRUE(reply.ok()) << reply.status();
      EXPECT_EQ(reply->entry().pinned(), pinned);
      EXPECT_EQ(reply->entry().entry_id(), entries[0].entry_id());
    }
    wire::SetCacheEntryTtlRequest ttl;
    *ttl.mutable_entry() = selector;
    ttl.mutable_ttl()->set_seconds(3600);
    EXPECT_TRUE(client_.SetCacheEntryTtl(ttl)->entry().has_expire_time());
    ttl.clear_ttl();
    EXPECT_FALSE(client_.SetCacheEntryTtl(ttl)->entry().has_expire_time());
  }
}

TEST_F(AdminTest, PurgeIsADryRunUnlessForcedAndTakesOnlyWhatFits) {
  Warm({1, 2, 12});
  Warm({1}, "bob");
  wire::PurgeCacheEntriesRequest purge;
  purge.set_text_prefix("1");
  auto reply = client_.PurgeCacheEntries(purge);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->match_count(), 2);
  EXPECT_EQ(reply->sample_size(), 2);
  EXPECT_EQ(reply->purged_host_token_count() + reply->purged_disk_token_count(), 0);
  EXPECT_EQ(List().size(), 4u);
  purge.set_force(true);
  reply = client_.PurgeCacheEntries(purge);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->match_count(), 2);
  EXPECT_GE(reply->purged_host_token_count(), 190) << "two of 100, less what both begin with";
  EXPECT_GE(reply->purged_disk_token_count(), 190);
  EXPECT_EQ(Reused(1), 0);
  EXPECT_EQ(Reused(2), 99);
  EXPECT_EQ(List().size(), 2u) << "bob's is there";
}

TEST_F(AdminTest, PurgeForgetsThePromptsThatAnEntryAnswers) {
  Warm({1});
  ASSERT_TRUE(client_.Generate(TextSpec(Text(1), 8)).ok());
  ASSERT_TRUE(client_.Generate(TextSpec(Text(1) + " and more", 8)).ok());
  Warm({2});
  server_.Settle();
  ASSERT_EQ(client_.GetCacheStats()->similarity().prompt_count(), 3);
  wire::PurgeCacheEntriesRequest purge;
  purge.set_text_prefix(Text(1) + " and more");
  purge.set_force(true);
  ASSERT_TRUE(client_.PurgeCacheEntries(purge).ok());
  EXPECT_EQ(client_.GetCacheStats()->similarity().prompt_count(), 2)
      << "the first reply still begins with the shorter prompt";
  purge.set_text_prefix(Text(1));
  ASSERT_TRUE(client_.PurgeCacheEntries(purge).ok());
  EXPECT_EQ(client_.GetCacheStats()->similarity().prompt_count(), 1);
  server_.Settle();
  EXPECT_EQ(client_.GetCacheStats()->similarity().vector_count(), 1);
}

TEST_F(AdminTest, PurgeFailsNoRequestThatRunsOnWhatGoes) {
  Warm({1});
  server_.gate().Close();
  client::Client caller = Operator();
  auto running = std::async(std::launch::async,
                            [&] { return caller.Generate(TextSpec(Text(1) + " and on", 8)); });
  server_.gate().AwaitWaiter();
  wire::PurgeCacheEntriesRequest purge;
  purge.set_all(true);
  purge.set_force(true);
  auto purged = std::async(std::launch::async, [&] { return client_.PurgeCacheEntries(purge); });
  server_.gate().Open();
  EXPECT_TRUE(purged.get().ok());
  const auto reply = running.get();
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->usage().output_token_count(), 8);
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

TEST_F(AdminTest, StatsEqualTheMetricsAndTheSumOfTheNamespaces) {
  Warm({1, 2, 3});
  Warm({1}, "bob");
  server_.Settle();
  const auto stats = client_.GetCacheStats();
  ASSERT_TRUE(stats.ok());
  int64_t host = 0, disk = 0, tokens = 0, segments = 0, prompts = 0, vectors = 0;
  for (const wire::NamespaceStats& in : stats->namespaces()) {
    host += in.host_cached_bytes();
    disk += in.disk_bytes();
    tokens += in.host_cached_token_count();
    segments += in.disk_segment_count();
    prompts += in.prompt_count();
    vectors += in.vector_count();
    const auto metric = [&](const char* tier) {
      return server_.Metric("reprise_namespace_bytes",
                            absl::StrCat("namespace=\"", in.name(), "\",tier=\"", tier, "\""));
    };
    EXPECT_EQ(metric("host"), in.host_bytes()) << in.name();
    EXPECT_EQ(metric("disk"), in.disk_bytes()) << in.name();
  }
  EXPECT_EQ(stats->namespaces_size(), 2);
  EXPECT_EQ(host, stats->host().cached_block_count() * stats->host().block_bytes());
  EXPECT_EQ(tokens, stats->host().cached_token_count());
  EXPECT_EQ(disk, stats->disk().payload_bytes());
  EXPECT_EQ(segments, stats->disk().segment_count());
  EXPECT_EQ(prompts, stats->similarity().prompt_count());
  EXPECT_EQ(vectors, stats->similarity().vector_count());
  const std::pair<const char*, int64_t> gauges[] = {
      {"reprise_host_blocks", stats->host().block_count()},
      {"reprise_host_cached_blocks", stats->host().cached_block_count()},
      {"reprise_store_segments", stats->disk().segment_count()},
      {"reprise_store_payload_bytes", stats->disk().payload_bytes()},
      {"reprise_store_disk_bytes", stats->disk().disk_bytes()},
      {"reprise_store_durable_segments_total", stats->disk().durable_segment_count()},
      {"reprise_similarity_vectors", stats->similarity().vector_count()},
  };
  for (const auto& [name, value] : gauges) EXPECT_EQ(server_.Metric(name), value) << name;
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
