// Byte-level BPE and WordPiece-style normalisation on arbitrary bytes.
#include <utf8proc.h>

#include "core/text/bpe_tokenizer.h"
#include "core/text/nfc.h"
#include "core/text/utf8.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {
namespace {

std::unique_ptr<Tokenizer> Load(const char* name) {
  const auto spec = ReadTokenizerFolder(std::string("tests/golden/tokenizer/") + name);
  Require(spec.ok(), "a golden tokenizer is read");
  auto tokenizer = CreateBpeTokenizer(*spec);
  Require(tokenizer.ok(), "a golden tokenizer is made");
  return *std::move(tokenizer);
}

std::string Decode(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  std::string text;
  for (const TokenId id : ids) {
    const absl::string_view bytes = tokenizer.TokenBytes(id);
    text.append(bytes.data(), bytes.size());
    Require(!tokenizer.IsSpecial(id), "text gives no special token");
  }
  return text;
}

// Form C by utf8proc's own way.
std::string ReferenceNfc(absl::string_view text) {
  utf8proc_uint8_t* composed = nullptr;
  const auto size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  Require(size >= 0, "utf8proc composes valid text");
  std::string out(reinterpret_cast<const char*>(composed), static_cast<size_t>(size));
  std::free(composed);
  return out;
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  std::vector<std::string> seeds = {
      "Hello world, it's 2024 and they'll\n\n  say <|endoftext|>!",
      "e\xCC\x81\xCC\xA3 \xE1\x84\x80\xE1\x85\xA1 \xEA\xB0\x80\xE2\x84\xAB",
      "a\xCC\x81\xCC\xA3\xCC\x81\xCC\xA3\xCC\x81\xCC\xA3",
      "\xE0\xBD\xB3\xE0\xBD\xB3\xE0\xBD\xB3 \xF0\x9F\x98\x80\xEF\xBB\xBF"};
  std::string every;
  for (int byte = 0; byte < 128; ++byte) every.push_back(static_cast<char>(byte));
  seeds.push_back(every + "\xC2\x80\xDF\xBF\xEF\xBF\xBF\xF4\x8F\xBF\xBF");
  return seeds;
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;
  static const auto gpt2 = fuzz::Load("gpt2"), llama3 = fuzz::Load("llama3"),
                    qwen2 = fuzz::Load("qwen2");
  const absl::string_view text = fuzz::Text(data, size);
  const bool valid = !FindInvalidUtf8(text);
  for (const Tokenizer* tokenizer : {gpt2.get(), llama3.get(), qwen2.get()}) {
    const auto ids = tokenizer->Encode(text);
    fuzz::Require(ids.ok() == valid, "exactly valid UTF-8 is encoded");
    if (!ids.ok()) continue;
    const std::string decoded = fuzz::Decode(*tokenizer, *ids);
    if (tokenizer != qwen2.get()) fuzz::Require(decoded == text, "decoding gives the bytes back");
    if (tokenizer == qwen2.get())
      fuzz::Require(decoded == *ToNfc(text), "form C is what is encoded");
  }
  constexpr size_t kQuick = 4096;  // the reference takes long for many marks
  if (valid && size <= kQuick) {
    fuzz::Require(*ToNfc(text) == fuzz::ReferenceNfc(text), "form C is utf8proc's");
  }
  return 0;
}
