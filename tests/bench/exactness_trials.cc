// exactness_trials TRIALS [LARGE_TRIALS [SMOLLM2.gguf [SEED]]]: random trials of the exactness
// contract, for `make verify-engine`.
//
// Each trial computes one prompt twice: cold, in one step alone on one thread, and then
// in another way: the first tokens' KV is reused from an earlier sequence (its blocks
// shared and the last one copied, or evicted and loaded from their bytes), the rest is
// computed in random pieces beside 0 to 31 other sequences on one or two threads. All KV
// and the last logits must be equal, bit for bit. TRIALS run on two-layer models of real
// head sizes over every architecture, weight format and KV dtype, LARGE_TRIALS on
// SmolLM2 and the DialoGPT-medium shape. Last, kernels planted wrong must be caught.
//
// Prints a row for each configuration: trials, tokens reused by how, differing trials.
// Exit code 1 when a bit differs, a row reused nothing, or a planted kernel passes.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <random>
#include <string>

#include "core/model/cpu_runner.h"
#include "core/model/kernels.h"
#include "tests/bench/random_model.h"
#include "tests/fakes/planted_kernels.h"
#include "tests/fakes/random_model.h"

namespace reprise {
namespace {

constexpr int kMaxMates = 31;
constexpr int kTrialsPerPrompt = 4;
constexpr int kMinPrompt = 17;

struct Format {
  const char* name;
  WeightChoice choice;
  StorageType storage;
};
constexpr Format kFormats[] = {{"fp32", WeightChoice::kFp32, StorageType::kF32},
                               {"bf16", WeightChoice::kBf16, StorageType::kF32},
                               {"fp16", WeightChoice::kFp16, StorageType::kF32},
                               {"int8", WeightChoice::kInt8, StorageType::kF32},
                               {"q8_0", WeightChoice::kAsStored, StorageType::kQ8_0},
                               {"q4_0", WeightChoice::kAsStored, StorageType::kQ4_0},
                               {"q4_1", WeightChoice::kAsStored, StorageType::kQ4_1},
                               {"q4_k", WeightChoice::kAsStored, StorageType::kQ4_K}};
constexpr Dtype kKvDtypes[] = {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16};

// What a row of the report adds up.
struct Tally {
  int trials = 0, differing = 0;
  int64_t shared_tokens = 0, loaded_tokens = 0;
};

struct Trace {
  std::vector<uint8_t> kv;  // all blocks of the prompt
  std::vector<float> logits;
};

bool SameBits(const Trace& a, const Trace& b) {
  return a.kv == b.kv && a.logits.size() == b.logits.size() &&
         std::memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)) == 0;
}

[[noreturn]] void Fail(const absl::Status& status) {
  std::cerr << "exactness_trials: " << status << std::endl;
  std::exit(2);
}

void Require(const absl::Status& status) {
  if (!status.ok()) Fail(status);
}

// One configuration: the same weights on one thread and on two.
class Configuration {
 public:
  Configuration(const LoadedModel& model, const CpuRunnerOptions& base, const Kernels& kernels,
                int max_prompt)
      : max_blocks_((max_prompt + kBlockTokens - 1) / kBlockTokens), max_prompt_(max_prompt) {
    for (int threads : {1, 2}) {
      CpuRunnerOptions options = base;
      options.num_threads = threads;
      const ModelConfig& c = model.config;
      const int64_t block_bytes = int64_t{2} * c.num_layers * c.num_kv_heads * kBlockTokens *
                                  c.head_dim * DtypeBytes(options.kv_dtype);
      options.kv_pool_bytes = block_bytes * (3 * max_blocks_ + kMaxMates);
      auto runner = CreateCpuRunnerWith(kernels, model, options);
      if (!runner.ok()) Fail(runner.status());
      runners_[threads - 1] = *std::move(runner);
    }
  }

  void RunTrials(int count, std::mt19937& random, Tally& tally) {
    for (int done = 0; done < count; done += kTrialsPerPrompt) {
      const std::vector<TokenId> prompt = RandomPrompt(random);
      const Trace cold = RunCold(prompt);
      for (int i = done; i < std::min(count, done + kTrialsPerPrompt); ++i) {
        RunTrial(prompt, cold, random, tally);
      }
    }
  }

 private:
  using Table = std::vector<BlockId>;

  // Blocks [0, max) belong to the trial, [max, 2 max) to the donor, then spare ones for
  // copies and loads, then one for each mate.
  Table Region(int index) const {
    Table table(max_blocks_);
    for (int i = 0; i < max_blocks_; ++i) table[i] = index * max_blocks_ + i;
    return table;
  }

  // Lengths are spread evenly over their logarithm.
  std::vector<TokenId> RandomPrompt(std::mt19937& random) const {
    const double span = std::log(static_cast<double>(max_prompt_) / kMinPrompt);
    const double at = std::uniform_real_distribution<double>(0, span)(random);
    std::vector<TokenId> ids(static_cast<size_t>(kMinPrompt * std::exp(at)));
    for (TokenId& id : ids) {
      id = static_cast<TokenId>(random() % runners_[0]->vocabulary_size());
    }
    return ids;
  }

  Trace RunCold(const std::vector<TokenId>& prompt) {
    const Table table = Region(0);
    StepSequence s;
    s.tokens = prompt;
    s.block_table = table;
    s.want_logits = true;
    const auto result = runners_[0]->Step({{s}});
    if (!result.ok()) Fail(result.status());
    return {ReadBlocks(*runners_[0], table, prompt.size()), result->logits[0]};
  }

  static std::vector<uint8_t> ReadBlocks(const ModelRunner& runner, const Table& table,
                                         size_t tokens) {
    const auto bytes = static_cast<size_t>(runner.block_bytes());
    std::vector<uint8_t> kv((tokens + kBlockTokens - 1) / kBlockTokens * bytes);
    for (size_t b = 0; b * bytes < kv.size(); ++b) {
      Require(runner.ReadBlock(table[b], absl::MakeSpan(kv).subspan(b * bytes, bytes)));
    }
    return kv;
  }

  // All that is left, one token as decoding does, or up to 40.
  static size_t RandomPiece(size_t left, std::mt19937& random) {
    const uint32_t kind = random() % 3;
    if (kind == 0) return left;
    return kind == 1 ? 1 : 1 + random() % std::min<size_t>(left, 40);
  }

  // None in every third run, else up to kMaxMates.
  static int RandomMates(std::mt19937& random) {
    return random() % 3 == 0 ? 0 : static_cast<int>(1 + random() % kMaxMates);
  }

  // Computes prompt[from, to) in random pieces beside `mates` other sequences, whose
  // tokens are random too; the logits of the last token.
  std::vector<float> Compute(ModelRunner& runner, const std::vector<TokenId>& prompt, size_t from,
                             size_t to, const Table& table, int mates, std::mt19937& random) {
    std::vector<float> logits;
    while (from < to) {
      const size_t piece = RandomPiece(to - from, random);
      std::vector<TokenId> mate_ids(static_cast<size_t>(mates));
      Table mate_blocks(static_cast<size_t>(mates));
      StepBatch batch;
      for (int m = 0; m < mates; ++m) {
        mate_ids[m] = static_cast<TokenId>(random() % runner.vocabulary_size());
        mate_blocks[m] = 3 * max_blocks_ + m;
        StepSequence mate;
        mate.tokens = absl::MakeConstSpan(mate_ids).subspan(m, 1);
        mate.block_table = absl::MakeConstSpan(mate_blocks).subspan(m, 1);
        batch.sequences.push_back(mate);
      }
      StepSequence s;
      s.tokens = absl::MakeConstSpan(prompt).subspan(from, piece);
      s.start_position = static_cast<int32_t>(from);
      s.block_table = table;
      s.want_logits = from + piece == to;
      const size_t at = random() % (batch.sequences.size() + 1);
      batch.sequences.insert(batch.sequences.begin() + static_cast<int64_t>(at), s);
      auto result = runner.Step(batch);
      if (!result.ok()) Fail(result.status());
      logits = std::move(result->logits[at]);
      from += piece;
    }
    return logits;
  }

  // Gives the trial the donor's first `reused` tokens: shared blocks, the last copied.
  void Share(ModelRunner& runner, size_t reused, const Table& donor, Table& table) {
    const size_t whole = reused / kBlockTokens;
    std::copy(donor.begin(), donor.begin() + static_cast<int64_t>(whole), table.begin());
    if (reused % kBlockTokens == 0) return;
    Require(runner.CopyBlock(donor[whole], table[whole], static_cast<int>(reused % kBlockTokens)));
  }

  // Evicts the donor's blocks: their bytes are kept, the blocks filled with NaN, and the
  // bytes loaded into other blocks, which the donor has from then on.
  void EvictAndLoad(ModelRunner& runner, size_t reused, Table& donor) {
    const Table spare = Region(2);
    std::vector<uint8_t> bytes(static_cast<size_t>(runner.block_bytes()));
    const std::vector<uint8_t> nan(bytes.size(), 0xFF);
    for (size_t b = 0; b * kBlockTokens < reused; ++b) {
      Require(runner.ReadBlock(donor[b], absl::MakeSpan(bytes)));
      Require(runner.WriteBlock(donor[b], nan));
      Require(runner.WriteBlock(spare[b], bytes));
      donor[b] = spare[b];
    }
  }

  void RunTrial(const std::vector<TokenId>& prompt, const Trace& cold, std::mt19937& random,
                Tally& tally) {
    ModelRunner& runner = *runners_[random() % 2];
    Table donor = Region(1), table = Region(0);
    const size_t reused = 1 + random() % (prompt.size() - 1);
    const size_t kept = reused + random() % (prompt.size() - reused);
    Compute(runner, prompt, 0, kept, donor, RandomMates(random), random);
    const bool load = random() % 2 == 0;
    if (load) EvictAndLoad(runner, reused, donor);
    Share(runner, reused, donor, table);
    Trace warm;
    warm.logits =
        Compute(runner, prompt, reused, prompt.size(), table, RandomMates(random), random);
    warm.kv = ReadBlocks(runner, table, prompt.size());
    ++tally.trials;
    tally.differing += SameBits(warm, cold) ? 0 : 1;
    (load ? tally.loaded_tokens : tally.shared_tokens) += static_cast<int64_t>(reused);
  }

  const int max_blocks_, max_prompt_;
  std::unique_ptr<ModelRunner> runners_[2];  // of one thread, of two
};

// Two layers, one of them local in architectures that have such; down projections reduce
// over 4096.
ModelConfig TwoLayers(const char* name, Architecture architecture, int heads, int kv_heads,
                      int head_dim) {
  ModelConfig c = SmallModelConfig(architecture);
  c.name = name;
  c.num_heads = heads;
  c.num_kv_heads = kv_heads;
  SetHeadDim(head_dim, c);
  c.hidden_size = heads * head_dim;
  c.intermediate_size = 4096;
  c.context_length = 640;
  SetLocalLayers(100, c);
  return c;
}

class Report {
 public:
  void Add(const std::string& name, const Tally& t) {
    const bool ok = t.differing == 0 && t.trials > 0 && t.shared_tokens + t.loaded_tokens > 0;
    std::printf("%-44s trials %5d  reused: shared %7lld, loaded %7lld tokens  differing %d%s\n",
                name.c_str(), t.trials, static_cast<long long>(t.shared_tokens),
                static_cast<long long>(t.loaded_tokens), t.differing, ok ? "" : "  FAILED");
    std::fflush(stdout);
    trials_ += t.trials;
    differing_ += t.differing;
    failed_ += ok ? 0 : 1;
  }

  void Planted(const char* name, const Tally& t) {
    const bool caught = t.differing > 0;
    std::printf("planted %-36s trials %5d  differing %d  %s\n", name, t.trials, t.differing,
                caught ? "caught" : "NOT CAUGHT");
    failed_ += caught ? 0 : 1;
    caught_ += caught ? 1 : 0;
  }

  int End() const {
    std::printf("exactness trials=%d differing=%d failed_rows=%d planted_caught=%d\n", trials_,
                differing_, failed_, caught_);
    return failed_ == 0 ? 0 : 1;
  }

 private:
  int trials_ = 0, differing_ = 0, failed_ = 0, caught_ = 0;
};

void RunSmall(int trials, std::mt19937& random, Report& report) {
  constexpr int kMaxPrompt = 600;
  const Kernels& kernels = *SelectKernels("");
  const ModelConfig shapes[] = {
      TwoLayers("gpt2, 16 x 64", Architecture::kGpt2, 16, 16, 64),
      TwoLayers("llama, 8 of 2 x 64", Architecture::kLlama, 8, 2, 64),
      TwoLayers("llama, 8 of 4 x 128", Architecture::kLlama, 8, 4, 128),
      TwoLayers("gpt_neo, 12 x 64", Architecture::kGptNeo, 12, 12, 64),
      TwoLayers("qwen2, 12 of 2 x 128", Architecture::kQwen2, 12, 2, 128),
      TwoLayers("gemma3, 4 of 1 x 256", Architecture::kGemma3, 4, 1, 256)};
  const int configurations =
      static_cast<int>(std::size(shapes) * std::size(kFormats) * std::size(kKvDtypes));
  const int each = (trials + configurations - 1) / configurations;
  for (const ModelConfig& shape : shapes) {
    for (const Format& format : kFormats) {
      const LoadedModel model = RandomModelBuilder(shape, format.storage).Build();
      for (const Dtype kv : kKvDtypes) {
        CpuRunnerOptions options;
        options.weights = format.choice;
        options.kv_dtype = kv;
        Tally tally;
        Configuration(model, options, kernels, kMaxPrompt).RunTrials(each, random, tally);
        report.Add(shape.name + ", " + format.name + ", kv " + DtypeName(kv), tally);
      }
    }
  }
}

void RunLarge(int trials, const std::string& smollm2, std::mt19937& random, Report& report) {
  constexpr int kMaxPrompt = 200;
  const Kernels& kernels = *SelectKernels("");
  for (const WeightChoice choice : {WeightChoice::kAsStored, WeightChoice::kBf16}) {
    const auto model = LoadModel(smollm2);
    if (!model.ok()) Fail(model.status());
    CpuRunnerOptions options;
    options.weights = choice;
    Tally tally;
    Configuration(*model, options, kernels, kMaxPrompt).RunTrials(trials / 4, random, tally);
    report.Add(std::string("SmolLM2-135M, ") + WeightChoiceName(choice), tally);
  }
  const LoadedModel medium = bench::RandomGpt2Medium();
  for (const WeightChoice choice : {WeightChoice::kBf16, WeightChoice::kInt8}) {
    CpuRunnerOptions options;
    options.weights = choice;
    Tally tally;
    Configuration(medium, options, kernels, kMaxPrompt).RunTrials(trials / 4, random, tally);
    report.Add(std::string("DialoGPT-medium shape, ") + WeightChoiceName(choice), tally);
  }
}

// In fp32, since rounding to fewer bits hides most differences of the last one.
void RunPlanted(std::mt19937& random, Report& report) {
  const Kernels& clean = *SelectKernels("");
  const LoadedModel model = RandomModelBuilder(Architecture::kGpt2).Build();
  CpuRunnerOptions options;
  options.weights = WeightChoice::kFp32;
  options.kv_dtype = Dtype::kFloat32;
  const auto run = [&](const char* name, const Kernels& planted) {
    Tally tally;
    Configuration(model, options, planted, 150).RunTrials(20, random, tally);
    report.Planted(name, tally);
  };
  run("split-K product", PlantSplitReduction(clean));
  run("batch-dependent attention", PlantBatchDependentAttention(clean));
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) {
  const int trials = argc > 1 ? std::atoi(argv[1]) : 0;
  const int large = argc > 2 ? std::atoi(argv[2]) : 0;
  if (trials < 1 || large < 0 || argc > 5) {
    std::cerr << "usage: exactness_trials TRIALS [LARGE_TRIALS [SMOLLM2.gguf [SEED]]]\n";
    return 2;
  }
  std::mt19937 random(argc > 4 ? std::atoi(argv[4]) : 1);
  reprise::Report report;
  reprise::RunSmall(trials, random, report);
  if (large > 0) {
    reprise::RunLarge(large, argc > 3 ? argv[3] : "models/SmolLM2-135M-Instruct.Q4_1.gguf", random,
                      report);
  }
  reprise::RunPlanted(random, report);
  return report.End();
}
