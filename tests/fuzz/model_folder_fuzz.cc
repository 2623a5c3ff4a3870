// The JSON files of a Hugging Face folder. The first byte chooses which of them
// the rest of the input is; the others are whole.
#include "core/model/load_model.h"
#include "core/text/bpe_tokenizer.h"
#include "core/text/wordpiece_tokenizer.h"
#include "tests/fakes/model_files.h"
#include "tests/fakes/random_model.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {
namespace {

constexpr const char* kFiles[] = {"config.json", "model.safetensors.index.json", "tokenizer.json",
                                  "tokenizer_config.json"};
constexpr char kTokenizer[] =
    R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "ByteLevel"}]},
"normalizer": null, "added_tokens": [{"id": 5, "content": "<|im_end|>", "special": true}],
"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}, "merges": ["a b", ["ab", "c"]]}})";
constexpr char kWordPiece[] =
    R"({"model": {"type": "WordPiece", "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "##b": 4}}})";

// Made once, since it is left as it is.
const TemporaryFolder& Folder() {
  static const TemporaryFolder folder;
  static const bool filled = [] {
    const LoadedModel model = RandomModelBuilder(TinyModelConfig(Architecture::kLlama)).Build();
    folder.Write("model.safetensors", WriteSafetensors(ToHuggingFace(model).tensors));
    return true;
  }();
  Require(filled, "the folder is filled");
  return folder;
}

void UseTokenizers() {
  if (const auto spec = ReadTokenizerFolder(Folder().path()); spec.ok()) {
    if (const auto tokenizer = CreateBpeTokenizer(*spec); tokenizer.ok()) {
      const auto ids = (*tokenizer)->Encode("abc cab 12");
      Require(ids.ok(), "a tokenizer that was made encodes ASCII");
      // An input is at most 64 KiB of text, and so of tokens; a model has a few unused ids.
      Require((*tokenizer)->vocabulary_size() <= 2 << 16, "a vocabulary is as large as its file");
    }
  }
  if (const auto pieces = WordPieceTokenizer::Load(Folder().path()); pieces.ok()) {
    Require((*pieces)->Encode("ab a, abba", 8).size() <= 8, "WordPiece keeps to its limit");
  }
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  auto config =
      ToHuggingFace(RandomModelBuilder(TinyModelConfig(Architecture::kLlama)).Build()).config;
  config["rope_scaling"] =
      R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0})";
  const auto gpt2 = ToHuggingFace(RandomModelBuilder(TinyModelConfig(Architecture::kGpt2)).Build());
  return {
      std::string(1, 0) + WriteJson(config),
      std::string(1, 0) + WriteJson(gpt2.config),
      "\1{\"weight_map\": {\"model.norm.weight\": \"model.safetensors\"}}",
      std::string(1, 0) + ReadSeed("tests/golden/model/gpt_neo/config.json"),
      std::string(1, 0) + ReadSeed("tests/golden/model/qwen2_window/config.json"),
      std::string(1, 0) + ReadSeed("tests/golden/model/gemma3/config.json"),
      std::string("\2") + kTokenizer,
      std::string("\2") + kWordPiece,
      std::string("\2") + ReadSeed("tests/golden/tokenizer/gemma/tokenizer.json"),
      std::string("\2") +
          R"({"pre_tokenizer": {"type": "ByteLevel"}, "added_tokens": [{"id": 0, "content": "<|im_end|>"}],
"model": {"vocab": {"a": 4194303}, "merges": []}})",
      "\3{\"eos_token\": {\"content\": \"<|im_end|>\"}, \"bos_token\": \"a\", "
      "\"add_bos_token\": true, "
      "\"chat_template\": \"<|im_start|>system\\nYou<|im_end|>\"}"};
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise::fuzz;
  if (size == 0) return 0;
  const size_t which = data[0] % std::size(kFiles);
  const auto seeds = [] {
    static const std::vector<std::string> made = FuzzSeeds();
    return made;
  }();
  const std::string whole[] = {seeds[0].substr(1), seeds[2].substr(1), kTokenizer,
                               seeds.back().substr(1)};
  for (size_t i = 0; i < std::size(kFiles); ++i) {
    Folder().Write(kFiles[i], i == which ? Text(data + 1, size - 1) : whole[i]);
  }
  if (which < 2) {
    (void)reprise::LoadModel(Folder().path()).ok();
  } else {
    UseTokenizers();
  }
  return 0;
}
