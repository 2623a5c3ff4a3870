// The operators' API end to end: what it shows is what is there, and what it does holds.
#include <gtest/gtest.h>

#include <future>
#include <set>

#include "tests/integration/admin_fixture.h"

namespace reprise {
namespace {

namespace wire = admin::v1;

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

}  // namespace
}  // namespace reprise
