// A server with two tenants, and an operator's client of it.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "tests/integration/test_server.h"

namespace reprise {

// A hundred letters that begin with `number`.
inline std::string Text(int number) {
  std::string text = absl::StrCat(number, " ");
  while (text.size() < 100) text += static_cast<char>('a' + (text.size() * 7 + number) % 26);
  return text;
}

inline TestServerOptions AdminOptions() {
  TestServerOptions options;
  Digest other;
  other.fill(9);
  options.namespaces = {{"tests", Digest{}, {}, {"tests"}}, {"bob", other, {}, {"bob"}}};
  return options;
}

class AdminTest : public testing::Test {
 protected:
  AdminTest() : server_(AdminOptions()) {}

  client::Client Operator() {
    client::ClientOptions options;
    options.address = absl::StrCat("127.0.0.1:", server_.grpc().inference_port());
    options.admin_address = absl::StrCat("127.0.0.1:", server_.grpc().admin_port());
    return client::Client(options);
  }

  void Warm(const std::vector<int>& numbers, const std::string& tenant = "") {
    admin::v1::WarmCacheRequest request;
    request.set_tenant(tenant);
    for (const int number : numbers) request.add_prompts()->set_text(Text(number));
    const auto reply = client_.WarmCache(request);
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->durable_token_count(), reply->prompt_token_count());
    server_.Settle();
  }

  std::vector<admin::v1::CacheEntry> List(admin::v1::ListCacheEntriesRequest request = {}) {
    std::vector<admin::v1::CacheEntry> all;
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

  static admin::v1::CacheEntrySelector EntryOf(int number, const std::string& tenant = "") {
    admin::v1::CacheEntrySelector selector;
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

  absl::StatusOr<admin::v1::ImportCacheEntriesResponse> Import(const std::string& archive,
                                                               const std::string& tenant,
                                                               size_t piece,
                                                               const std::string& digest = "") {
    admin::v1::ImportCacheEntriesRequest first;
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

}  // namespace reprise
