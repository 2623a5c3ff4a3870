// store_bench: many records, from an open to the first hit, and look-ups.
#include <chrono>
#include <future>
#include <iostream>

#include "absl/strings/str_format.h"
#include "core/engine/disk_cache.h"
#include "core/engine/engine.h"
#include "core/text/byte_tokenizer.h"
#include "tests/bench/store_bench.h"
#include "tests/fakes/scripted_runner.h"

namespace reprise::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kSegmentsEach = kPromptTokens / kSegmentTokens;
constexpr int64_t kPayloadBytes = 256;  // four blocks of the scripted runner

double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::unique_ptr<ModelRunner> Runner() {
  ScriptedRunnerOptions options;
  options.num_blocks = 512;
  return CreateScriptedRunner(options);
}

// Runs a prompt that is stored; the tokens that were loaded.
int32_t FirstHit(Engine& engine, int64_t prompt) {
  GenerateRequest request;
  request.prompt = PromptOf(prompt);
  request.cache_policy = CachePolicy::kForce;
  std::promise<int32_t> loaded;
  GenerationSink sink;
  sink.on_done = [&](const absl::Status& status, const GenerateResult& result) {
    loaded.set_value(status.ok() ? result.reuse.disk_tokens : -1);
  };
  Require(engine.Submit(std::move(request), std::move(sink)).status(), "submit");
  return loaded.get_future().get();
}

}  // namespace

void Fill(const std::vector<std::string>& words) {
  const auto store = OpenStore({words[0]});
  const int64_t prompts = std::stoll(words[1]) / kSegmentsEach;
  const auto start = Clock::now();
  std::vector<SegmentWrite> batch;
  for (int64_t i = 0; i < prompts; ++i) {
    for (SegmentWrite& write : SegmentsOf(PromptOf(i), kPayloadBytes)) {
      write.record.last_used_unix_ms = i;
      batch.push_back(std::move(write));
    }
    if (batch.size() < 16384 && i + 1 < prompts) continue;
    Require(store->WriteSegments(batch), "write");
    batch.clear();
  }
  std::cout << absl::StrFormat("{\"records\":%d,\"fill_s\":%.1f}\n", store->Stats().segment_count,
                               Since(start));
}

void Open(const std::vector<std::string>& words) {
  const int64_t prompts = std::stoll(words[1]) / kSegmentsEach;
  const SystemClock clock;
  Metrics metrics;
  const auto tokenizer = CreateByteTokenizer();
  EngineParts parts;
  parts.runner = Runner();
  parts.tokenizer = tokenizer.get();
  parts.metrics = &metrics;
  parts.clock = &clock;
  parts.identity = BenchIdentity();
  const int64_t before = ResidentBytes();
  const auto start = Clock::now();
  RocksDbOptions options;
  options.path = words[0];
  options.settle_when_listed = true;
  parts.store = OpenStore(options);
  const double opened = Since(start);
  auto engine = Engine::Create(EngineOptions(), std::move(parts));
  Require(engine.status(), "engine");
  const double created = Since(start);
  const int64_t resident = ResidentBytes() - before;
  const int32_t tokens = FirstHit(**engine, prompts / 2);
  const double hit = Since(start);
  const CacheStats stats = (*engine)->GetCacheStats();
  std::cout << absl::StrFormat(
      "{\"records\":%d,\"open_s\":%.3f,\"engine_s\":%.3f,\"first_hit_s\":%.3f,\"hit_tokens\":%d,"
      "\"bytes_per_record\":%d}\n",
      stats.disk.segment_count, opened, created - opened, hit, tokens,
      resident / std::max<int64_t>(stats.disk.segment_count, 1));
}

void Lookup(const std::vector<std::string>& words) {
  const int64_t records = std::stoll(words[0]);
  DiskCache disk(BenchIdentity());
  PrefixIndex blocks(kBlockTokens);
  const int64_t prompts = records / kSegmentsEach;
  for (int64_t i = 0; i < prompts; ++i) {
    for (const SegmentWrite& write : SegmentsOf(PromptOf(i), 1)) disk.Add(write.record);
  }
  const int64_t block_prompts = records * kBlockTokens / kPromptTokens;
  for (int64_t i = 0; i < block_prompts; ++i) {
    PrefixIndex::NodeId parent = PrefixIndex::kRoot;
    const std::vector<TokenId> ids = PromptOf(i);
    for (size_t at = 0; at < ids.size(); at += kBlockTokens) {
      parent = blocks.Insert(parent, absl::MakeConstSpan(ids).subspan(at, kBlockTokens), at).node;
    }
  }
  std::vector<double> disk_us, block_us;
  std::mt19937_64 random(5);
  for (int i = 0; i < 20000; ++i) {
    const std::vector<TokenId> ids = PromptOf(static_cast<int64_t>(random() % block_prompts));
    const auto start = Clock::now();
    const bool found = disk.Find(ids).tokens == kPromptTokens;
    const auto middle = Clock::now();
    const bool matched = blocks.Find(ids).tokens == kPromptTokens;
    block_us.push_back(1e6 * Since(middle));
    disk_us.push_back(1e6 * std::chrono::duration<double>(middle - start).count());
    if (!found || !matched) Require(absl::InternalError("not found"), "look-up");
  }
  std::cout << absl::StrFormat(
      "{\"segments\":%d,\"blocks\":%d,\"disk_p50_us\":%.1f,\"disk_p99_us\":%.1f,"
      "\"memory_p50_us\":%.1f,\"memory_p99_us\":%.1f}\n",
      disk.size(), blocks.size(), Percentile(disk_us, 0.5), Percentile(disk_us, 0.99),
      Percentile(block_us, 0.5), Percentile(block_us, 0.99));
}

}  // namespace reprise::bench
