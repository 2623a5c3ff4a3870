// Bits of logits and KV against tests/golden/numerics/hashes.txt, whose lines are a
// numerics id and the SHA-256 of what small random models give under it. KV that was
// stored under an id is read back under it, so bits may change with the id only.
//
// REPRISE_REGENERATE_NUMERICS=1 writes the file anew: the lines of this CPU's instruction
// sets, beside those of the ones it lacks. It does not replace a hash under the same id:
// who changes these models, not the kernels, deletes the lines first.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <numeric>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/model/cpu_runner.h"
#include "core/model/kernels.h"
#include "tests/fakes/random_model.h"
#include "tests/golden/golden_file.h"

namespace reprise {
namespace {

constexpr const char* kFile = "numerics/hashes.txt";
constexpr const char* kInstructionSets[] = {"avx512bf16", "avx512", "avx2", "portable"};
constexpr Dtype kKvDtypes[] = {Dtype::kFloat32, Dtype::kBfloat16, Dtype::kFloat16};
constexpr Architecture kArchitectures[] = {Architecture::kGpt2, Architecture::kLlama,
                                           Architecture::kGemma3};
constexpr std::pair<StorageType, WeightChoice> kWeights[] = {
    {StorageType::kF32, WeightChoice::kFp32},      {StorageType::kF32, WeightChoice::kBf16},
    {StorageType::kF32, WeightChoice::kFp16},      {StorageType::kF32, WeightChoice::kInt8},
    {StorageType::kQ8_0, WeightChoice::kAsStored}, {StorageType::kQ4_0, WeightChoice::kAsStored},
    {StorageType::kQ4_1, WeightChoice::kAsStored}, {StorageType::kQ4_K, WeightChoice::kAsStored}};

using Hashes = std::map<std::string, std::string>;  // by numerics id

bool Regenerating() { return std::getenv("REPRISE_REGENERATE_NUMERICS") != nullptr; }

Hashes ReadHashes() {
  std::ifstream file(GoldenPath(kFile));
  Hashes hashes;
  for (std::string id, hash; file >> id >> hash;) hashes[id] = hash;
  return hashes;
}

// Empty where `hash` is the one of `id`, else what to do.
std::string FindProblem(const Hashes& golden, const std::string& id, const std::string& hash) {
  const auto known = golden.find(id);
  if (known == golden.end()) {
    return absl::StrCat("no line for this numerics id; add to ", GoldenPath(kFile), ":\n", id, " ",
                        hash);
  }
  if (known->second == hash) return "";
  return absl::StrCat(id, " gives other bits than before: ", hash, " instead of ", known->second,
                      "; raise kKernelVersion in core/model/cpu_runner.cc, or KV stored by the"
                      " older kernels is taken for this one's");
}

// Quantised super-blocks hold 256 weights; local layers see fewer keys than there are.
LoadedModel Model(Architecture architecture, StorageType storage) {
  ModelConfig c = SmallModelConfig(architecture);
  c.num_heads = 4;
  c.num_kv_heads = TraitsOf(architecture).rotary() ? 2 : 4;
  c.hidden_size = 256;
  c.intermediate_size = 512;
  SetLocalLayers(24, c);
  return RandomModelBuilder(c, storage).Build();
}

// Adds the logits and KV of a prompt of several rows and of the row after it.
void AddBits(ModelRunner& runner, DigestBuilder& digest) {
  std::vector<TokenId> tokens(40);
  std::iota(tokens.begin(), tokens.end(), 100);
  const std::vector<BlockId> table = {0, 1, 2};
  for (const int32_t start : {0, 39}) {
    StepSequence s;
    s.tokens = absl::MakeConstSpan(tokens).subspan(start, start == 0 ? 39 : 1);
    s.start_position = start;
    s.block_table = table;
    s.want_logits = true;
    const auto result = runner.Step({{s}});
    ASSERT_TRUE(result.ok()) << result.status();
    const std::vector<float>& logits = result->logits[0];
    digest.Add("logits", ByteView(reinterpret_cast<const uint8_t*>(logits.data()),
                                  logits.size() * sizeof(float)));
  }
  std::vector<uint8_t> block(runner.block_bytes());
  for (const BlockId id : table) {
    ASSERT_TRUE(runner.ReadBlock(id, absl::MakeSpan(block)).ok());
    digest.Add("kv", ByteView(block));
  }
}

// The id and the hash of all architectures under it.
std::pair<std::string, std::string> Compute(const Kernels& kernels,
                                            std::pair<StorageType, WeightChoice> weights,
                                            Dtype kv_dtype) {
  std::string id;
  DigestBuilder digest;
  for (const Architecture architecture : kArchitectures) {
    CpuRunnerOptions options;
    options.num_threads = 1;
    options.weights = weights.second;
    options.kv_dtype = kv_dtype;
    options.kv_pool_bytes = int64_t{4} << 20;
    auto runner = CreateCpuRunnerWith(kernels, Model(architecture, weights.first), options);
    if (!runner.ok()) {
      ADD_FAILURE() << runner.status();
      return {};
    }
    EXPECT_TRUE(id.empty() || id == (*runner)->numerics_id()) << id;
    id = (*runner)->numerics_id();
    AddBits(**runner, digest);
  }
  return {id, ToHex(digest.Finish())};
}

Hashes ComputeAll(const Kernels& kernels) {
  Hashes hashes;
  for (const auto& weights : kWeights) {
    for (const Dtype kv_dtype : kKvDtypes) hashes.insert(Compute(kernels, weights, kv_dtype));
  }
  return hashes;
}

// Ids of older versions of the instruction set's kernels go.
void ReplaceHashes(const char* instruction_set, const Hashes& hashes, Hashes golden) {
  std::erase_if(golden, [instruction_set](const auto& line) {
    return absl::StartsWith(line.first, absl::StrCat("cpu-", instruction_set, "-"));
  });
  golden.insert(hashes.begin(), hashes.end());
  std::ofstream file(GoldenPath(kFile));
  for (const auto& [id, hash] : golden) file << id << " " << hash << "\n";
  EXPECT_TRUE(file.flush().good()) << GoldenPath(kFile);
}

class NumericsGoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(NumericsGoldenTest, BitsAreThoseOfTheNumericsId) {
  const Kernels* kernels = SelectKernels(GetParam());
  if (kernels == nullptr) GTEST_SKIP() << "this CPU lacks " << GetParam();
  const Hashes hashes = ComputeAll(*kernels);
  ASSERT_EQ(hashes.size(), std::size(kWeights) * std::size(kKvDtypes));
  Hashes golden = ReadHashes();
  for (const auto& [id, hash] : hashes) {
    if (Regenerating() && !golden.contains(id)) continue;
    EXPECT_EQ(FindProblem(golden, id, hash), "");
  }
  if (Regenerating() && !HasFailure()) ReplaceHashes(GetParam(), hashes, std::move(golden));
}

INSTANTIATE_TEST_SUITE_P(All, NumericsGoldenTest, ::testing::ValuesIn(kInstructionSets),
                         [](const auto& info) { return std::string(info.param); });

TEST(NumericsGoldenHashTest, ALastBitOfOneKernelIsOtherBitsUnderTheSameId) {
  static const Kernels* base = SelectKernels("portable");
  Kernels planted = *base;
  planted.rms_norm = [](const float* x, const float* weight, float epsilon, size_t size, float* y) {
    base->rms_norm(x, weight, epsilon, size, y);
    y[0] = std::nextafter(y[0], 1e9f);
  };
  const auto [id, hash] = Compute(*base, kWeights[0], Dtype::kFloat32);
  const auto [planted_id, planted_hash] = Compute(planted, kWeights[0], Dtype::kFloat32);
  EXPECT_EQ(planted_id, id);
  EXPECT_EQ(FindProblem({{id, hash}}, id, hash), "");
  EXPECT_TRUE(absl::StrContains(FindProblem({{id, hash}}, id, planted_hash), "kKernelVersion"));
  EXPECT_TRUE(absl::StrContains(FindProblem({}, id, hash), absl::StrCat(id, " ", hash)));
}

}  // namespace
}  // namespace reprise
