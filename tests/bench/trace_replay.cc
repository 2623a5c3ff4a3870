// Replays traffic over the engine's block cache, without a model: what would be reused
// at a size of the cache, under cost-aware eviction and under LRU.
//
//   trace_replay chat|api [--requests N] [--seed S] [--half-life SECONDS] [--first-use W]
//                [--depth-cost R]
//
// One line of JSON: for three sizes of the cache, as shares of all blocks that the
// trace fills, hit tokens over those of a cache without end, and seconds saved in units
// of computing one token at position 0, by policy. A prompt's tokens cost 1 + R times their
// position; R is 4 L d / 2 P of SmolLM2-135M unless given.
#include <algorithm>
#include <iostream>
#include <map>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "core/engine/block_cache.h"
#include "core/engine/scheduler.h"
#include "tests/bench/traces.h"

namespace reprise::bench {
namespace {

constexpr NamespaceId kIn = 0;  // the only one

struct Outcome {
  int64_t hit_tokens = 0;
  double saved = 0;
  int32_t blocks = 0;  // that hold something at the end
};

double SavedBy(int32_t hit, double depth_cost) { return hit * (1 + depth_cost * hit / 2.0); }

void Serve(const TraceRequest& request, BlockCache& cache, double depth_cost, Outcome& outcome) {
  cache.SetNow(request.seconds);
  const auto usable = static_cast<int32_t>(request.prompt.size()) - 1;
  const int32_t hit = std::min(cache.MatchedTokens(kIn, request.prompt), usable);
  outcome.hit_tokens += hit;
  outcome.saved += SavedBy(hit, depth_cost);
  std::vector<BlockId> blocks = cache.Share(kIn, request.prompt, hit);
  if (hit % kBlockTokens != 0) {  // the last one is copied
    cache.Release(blocks.back());
    blocks.pop_back();
  }
  std::vector<TokenId> ids = request.prompt;
  ids.insert(ids.end(), request.output.begin(), request.output.end());
  const auto needed = static_cast<size_t>(BlocksFor(static_cast<int32_t>(ids.size())));
  while (blocks.size() < needed) {
    const auto block = cache.Allocate(kIn);
    if (!block.ok()) break;
    blocks.push_back(*block);
  }
  ids.resize(std::min(ids.size(), blocks.size() * kBlockTokens));
  cache.Commit(kIn, ids, absl::MakeSpan(blocks), /*whole_blocks_only=*/false);
  for (const BlockId block : blocks) cache.Release(block);
}

Outcome Replay(const std::vector<TraceRequest>& trace, int32_t blocks,
               const EvictionOptions& eviction, double depth_cost) {
  Metrics metrics;
  BlockCache cache(blocks, &metrics, eviction);
  cache.AddNamespace(0);
  EvictionCosts costs;
  costs.per_depth = depth_cost;
  cache.SetCosts(costs);
  Outcome outcome;
  for (const TraceRequest& request : trace) Serve(request, cache, depth_cost, outcome);
  outcome.blocks = cache.num_cached();
  return outcome;
}

int32_t BlocksWithoutEnd(const std::vector<TraceRequest>& trace) {
  int64_t tokens = 0;
  for (const TraceRequest& r : trace) {
    tokens += static_cast<int64_t>(r.prompt.size() + r.output.size()) + 2 * kBlockTokens;
  }
  return static_cast<int32_t>(tokens / kBlockTokens);
}

[[noreturn]] void Usage() {
  std::cerr << "trace_replay chat|api [--requests N] [--seed S] [--half-life SECONDS] "
               "[--first-use W] [--depth-cost R]\n";
  exit(2);
}

std::map<std::string, double> ParseOptions(int argc, char** argv) {
  std::map<std::string, double> values{{"--requests", 10000},
                                       {"--seed", 1},
                                       {"--half-life", EvictionOptions().half_life_seconds},
                                       {"--first-use", EvictionOptions().first_use_weight},
                                       {"--depth-cost", 3.3e-4}};
  for (int i = 2; i < argc; i += 2) {
    const auto known = values.find(argv[i]);
    if (known == values.end() || i + 1 == argc || !absl::SimpleAtod(argv[i + 1], &known->second)) {
      Usage();
    }
  }
  return values;
}

int Main(int argc, char** argv) {
  const std::string shape = argc > 1 ? argv[1] : "";
  if (shape != "chat" && shape != "api") Usage();
  auto values = ParseOptions(argc, argv);
  TraceOptions options;
  options.requests = static_cast<int>(values["--requests"]);
  options.seed = static_cast<uint64_t>(values["--seed"]);
  const auto trace = shape == "chat" ? ChatTrace(options) : ApiTrace(options);
  const double depth_cost = values["--depth-cost"];
  EvictionOptions cost_aware, lru;
  cost_aware.half_life_seconds = values["--half-life"];
  cost_aware.first_use_weight = values["--first-use"];
  lru.policy = EvictionPolicy::kLru;
  const Outcome ideal = Replay(trace, BlocksWithoutEnd(trace), lru, depth_cost);
  // The templates of an api trace are few; what matters is whether they fit.
  const std::vector<double> shares = shape == "chat" ? std::vector<double>{0.02, 0.08, 0.32}
                                                     : std::vector<double>{0.005, 0.01, 0.04};
  std::string sizes;
  for (const double share : shares) {
    const auto blocks = static_cast<int32_t>(share * ideal.blocks);
    const Outcome aware = Replay(trace, blocks, cost_aware, depth_cost);
    const Outcome recent = Replay(trace, blocks, lru, depth_cost);
    const auto ratio = [&](const Outcome& o) {
      return static_cast<double>(o.hit_tokens) / static_cast<double>(ideal.hit_tokens);
    };
    absl::StrAppendFormat(&sizes,
                          "%s{\"blocks\": %d, \"share\": %g, \"hit_ratio\": %.4f, "
                          "\"lru_hit_ratio\": %.4f, \"saved\": %.6g, \"lru_saved\": %.6g}",
                          sizes.empty() ? "" : ", ", blocks, share, ratio(aware), ratio(recent),
                          aware.saved, recent.saved);
  }
  std::cout << absl::StrFormat(
      "{\"trace\": \"%s\", \"requests\": %d, \"seed\": %d, \"ideal_hit_tokens\": %d, "
      "\"ideal_saved\": %.6g, \"ideal_blocks\": %d, \"sizes\": [%s]}\n",
      shape, trace.size(), options.seed, ideal.hit_tokens, ideal.saved, ideal.blocks, sizes);
  return 0;
}

}  // namespace
}  // namespace reprise::bench

int main(int argc, char** argv) { return reprise::bench::Main(argc, argv); }
