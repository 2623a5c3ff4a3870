#include "core/text/byte_tokenizer.h"

#include "absl/strings/str_cat.h"
#include "core/text/utf8.h"

namespace reprise {
namespace {

constexpr TokenId kEos = 256;
constexpr char kEosLiteral[] = "<|eos|>";

class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() : digest_(DigestBuilder().Add("tokenizer", "bytes").Finish()) {
    for (int i = 0; i < 256; ++i) bytes_.push_back(static_cast<char>(i));
  }

  absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view text) const override {
    if (const auto invalid = FindInvalidUtf8(text)) {
      return absl::InvalidArgumentError(absl::StrCat("text is not valid UTF-8 at byte ", *invalid));
    }
    std::vector<TokenId> ids;
    for (const char byte : text) ids.push_back(static_cast<uint8_t>(byte));
    return ids;
  }

  absl::string_view TokenBytes(TokenId id) const override {
    if (id == kEos) return kEosLiteral;
    if (id < 0 || id > kEos) return {};
    return absl::string_view(bytes_).substr(id, 1);
  }

  std::optional<TokenId> SpecialToken(absl::string_view literal) const override {
    if (literal == kEosLiteral) return kEos;
    return std::nullopt;
  }
  bool IsSpecial(TokenId id) const override { return id == kEos; }
  int32_t vocabulary_size() const override { return kEos + 1; }
  std::optional<TokenId> bos_id() const override { return std::nullopt; }
  std::optional<TokenId> eos_id() const override { return kEos; }
  bool add_bos() const override { return false; }
  const Digest& digest() const override { return digest_; }

 private:
  std::string bytes_;
  Digest digest_;
};

}  // namespace

std::unique_ptr<Tokenizer> CreateByteTokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace reprise
