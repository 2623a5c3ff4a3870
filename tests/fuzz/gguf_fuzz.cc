// GGUF files: the container, the tokenizer in it, the model and one step of it.
#include <numeric>

#include "core/base/gguf.h"
#include "core/model/cpu_runner.h"
#include "core/model/load_model.h"
#include "core/text/bpe_tokenizer.h"
#include "core/text/byte_alphabet.h"
#include "tests/fakes/model_files.h"
#include "tests/fakes/random_model.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {
namespace {

// Byte-level tokens and a merge, as llama.cpp's converter writes them.
void AddTokenizer(GgufContents& contents) {
  std::vector<std::string> tokens(ByteLetters().begin(), ByteLetters().begin() + 38);
  tokens.push_back(tokens[32] + tokens[33]);
  tokens.push_back("<|im_end|>");
  std::vector<int64_t> types(tokens.size(), 1);
  types.back() = 3;
  contents.metadata["tokenizer.ggml.model"] = "gpt2";
  contents.metadata["tokenizer.ggml.pre"] = "smollm";
  contents.metadata["tokenizer.ggml.tokens"] = tokens;
  contents.metadata["tokenizer.ggml.token_type"] = types;
  contents.metadata["tokenizer.ggml.merges"] =
      std::vector<std::string>{tokens[32] + " " + tokens[33]};
  contents.metadata["tokenizer.ggml.eos_token_id"] = int64_t{39};
  contents.metadata["tokenizer.ggml.add_bos_token"] = false;
}

void UseTokenizer(const GgufFile& file) {
  const auto spec = ReadGgufTokenizer(file);
  if (!spec.ok()) return;
  const auto tokenizer = CreateBpeTokenizer(*spec);
  if (!tokenizer.ok()) return;
  const auto ids = (*tokenizer)->Encode("Hello  world 123 !\"");
  if (!ids.ok()) return;
  for (const TokenId id : *ids) {
    Require(id >= 0 && id < (*tokenizer)->vocabulary_size(), "ids are in the vocabulary");
    Require(!(*tokenizer)->TokenBytes(id).empty(), "a token that text gave has bytes");
  }
}

void StepOnce(const LoadedModel& model) {
  CpuRunnerOptions options;
  options.num_threads = 1;
  options.kv_pool_bytes = 4 << 20;
  const auto runner = CreateCpuRunner(model, options);
  if (!runner.ok()) return;
  const TokenId token = (*runner)->vocabulary_size() - 1;
  const BlockId block = 0;
  StepSequence s;
  s.tokens = absl::MakeConstSpan(&token, 1);
  s.block_table = absl::MakeConstSpan(&block, 1);
  s.sample = true;
  const auto result = (*runner)->Step({{s}});
  Require(result.ok(), "a model that was built makes a step");
  Require(result->tokens[0] >= 0 && result->tokens[0] <= token, "its token is in the vocabulary");
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  GgufContents llama = ToGguf(RandomModelBuilder(TinyModelConfig(Architecture::kLlama)).Build());
  llama.tensors.push_back({"rope_freqs.weight", 0, {4}, FloatBytes({1, 2, 8, 8})});
  AddTokenizer(llama);
  GgufContents metadata = llama;
  metadata.tensors.clear();
  return {WriteGguf(llama),
          WriteGguf(metadata),
          WriteGguf(ToGguf(RandomModelBuilder(TinyModelConfig(Architecture::kGpt2)).Build())),
          WriteGguf(ToGguf(RandomModelBuilder(TinyModelConfig(Architecture::kGemma3)).Build())),
          ReadSeed("tests/golden/tokenizer/gemma.gguf"),
          ReadSeed("tests/golden/quantization/types.gguf")};
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;
  const auto file = ParseGguf(ByteView(data, size));
  if (!file.ok()) return 0;
  uint64_t sum = 0;
  for (const GgufTensor& tensor : file->tensors) {
    sum = std::accumulate(tensor.bytes.begin(), tensor.bytes.end(), sum);
    fuzz::Require(tensor.bytes.data() >= data && tensor.bytes.end() <= data + size,
                  "a tensor lies in the file");
  }
  fuzz::UseTokenizer(*file);
  const fuzz::MemoryFile copy(fuzz::Text(data, size));
  if (const auto model = LoadModel(copy.path()); model.ok()) fuzz::StepOnce(*model);
  return 0;
}
