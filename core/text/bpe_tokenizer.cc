#include "core/text/bpe_tokenizer.h"

#include <algorithm>
#include <functional>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/text/bpe_merge.h"
#include "core/text/byte_alphabet.h"
#include "core/text/nfc.h"
#include "core/text/sentencepiece.h"
#include "core/text/utf8.h"
#include "core/text/word_splitter.h"

namespace reprise {
namespace {

constexpr TokenId kNoToken = -1;
constexpr int64_t kMaxUnusedIds = 1 << 16;

class BpeTokenizer final : public Tokenizer {
 public:
  absl::Status Init(const TokenizerSpec& spec);

  absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view text) const override;

  absl::string_view TokenBytes(TokenId id) const override {
    if (id < 0 || id >= vocabulary_size()) return {};
    return bytes_[id];
  }
  std::optional<TokenId> SpecialToken(absl::string_view literal) const override {
    const auto found = special_ids_.find(literal);
    if (found == special_ids_.end()) return std::nullopt;
    return found->second;
  }
  bool IsSpecial(TokenId id) const override { return special_.contains(id); }
  int32_t vocabulary_size() const override { return static_cast<int32_t>(bytes_.size()); }
  std::optional<TokenId> bos_id() const override { return bos_; }
  std::optional<TokenId> eos_id() const override { return eos_; }
  bool add_bos() const override { return add_bos_; }
  const Digest& digest() const override { return digest_; }

 private:
  absl::Status AddVocabulary(const TokenizerSpec& spec);
  absl::Status AddByteIds();
  absl::StatusOr<std::vector<TokenId>> EncodeWords(absl::string_view text) const;
  std::vector<TokenId> EncodeSentencePiece(absl::string_view text) const;
  std::vector<TokenId> Characters(absl::string_view piece) const;
  absl::Status AddMerges(const TokenizerSpec& spec);
  void AddScoredMerges(const TokenizerSpec& spec);
  void ComputeDigest(const TokenizerSpec& spec);

  bool sentencepiece_ = false;
  std::unique_ptr<WordSplitter> splitter_;
  UserSymbols user_symbols_;
  std::vector<std::string> bytes_;  // by id
  absl::flat_hash_map<std::string, TokenId> by_letters_;
  absl::flat_hash_map<std::string, TokenId> by_bytes_;  // ordinary tokens
  absl::flat_hash_map<uint64_t, Merge> merges_;
  std::vector<TokenId> byte_ids_;  // [256]
  absl::flat_hash_map<std::string, TokenId> special_ids_;
  absl::flat_hash_set<TokenId> special_;
  bool nfc_ = false;
  bool ignore_merges_ = false;
  bool add_bos_ = false;
  std::optional<TokenId> bos_, eos_;
  Digest digest_{};
};

absl::Status CheckId(const char* field, TokenId id, size_t vocabulary) {
  if (id >= 0 && static_cast<size_t>(id) < vocabulary) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("tokenizer: ", field, " ", id, " is not in [0, ", vocabulary, ")"));
}

// One token with a large id would otherwise cost the memory of a vocabulary up to it.
absl::Status CheckGaps(const std::vector<std::string>& tokens) {
  const int64_t unused = std::count(tokens.begin(), tokens.end(), "");
  if (unused <= kMaxUnusedIds) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("tokenizer: ", unused, " of ", tokens.size(),
                                                 " ids have no token, the limit is ",
                                                 kMaxUnusedIds));
}

absl::Status BpeTokenizer::AddVocabulary(const TokenizerSpec& spec) {
  RETURN_IF_ERROR(CheckGaps(spec.tokens));
  for (const TokenId id : spec.special) {
    RETURN_IF_ERROR(CheckId("special token id", id, spec.tokens.size()));
    special_.insert(id);
    special_ids_.emplace(spec.tokens[id], id);
  }
  for (const auto& [field, id] : {std::pair("bos id", spec.bos), std::pair("eos id", spec.eos)}) {
    if (id) RETURN_IF_ERROR(CheckId(field, *id, spec.tokens.size()));
  }
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string& token = spec.tokens[i];
    if (special_.contains(id)) {
      bytes_.push_back(token);
      continue;
    }
    bytes_.push_back(sentencepiece_ ? SentencePieceBytes(token)
                                    : LettersToBytes(token).value_or(token));
    by_letters_.emplace(token, id);
    by_bytes_.emplace(bytes_.back(), id);
  }
  for (const TokenId id : spec.user_symbols) {
    RETURN_IF_ERROR(CheckId("user symbol id", id, spec.tokens.size()));
    user_symbols_.Add(spec.tokens[id], id);
  }
  return AddByteIds();
}

absl::Status BpeTokenizer::AddByteIds() {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string letter =
        sentencepiece_ ? ByteToken(static_cast<uint8_t>(byte)) : ByteLetters()[byte];
    const auto found = by_letters_.find(letter);
    if (found == by_letters_.end() && sentencepiece_) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer: byte_fallback, and the vocabulary has no token ", letter));
    }
    // Some byte-level vocabularies (SmolLM's) lack a few control bytes; as in Hugging
    // Face tokenizers, text loses those bytes.
    byte_ids_.push_back(found == by_letters_.end() ? kNoToken : found->second);
  }
  return absl::OkStatus();
}

absl::Status BpeTokenizer::AddMerges(const TokenizerSpec& spec) {
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const auto& [left, right] = spec.merges[rank];
    const auto l = by_letters_.find(left), r = by_letters_.find(right);
    const auto merged = by_letters_.find(left + right);
    if (l == by_letters_.end() || r == by_letters_.end() || merged == by_letters_.end()) {
      return absl::InvalidArgumentError(absl::StrCat("tokenizer: merge ", rank, " (\"", left,
                                                     "\" + \"", right,
                                                     "\") is not in the vocabulary"));
    }
    merges_.try_emplace(PairKey(l->second, r->second),
                        Merge{static_cast<int32_t>(rank), merged->second});
  }
  return absl::OkStatus();
}

// Without merges any two tokens that make a third merge, the one of the highest score first.
void BpeTokenizer::AddScoredMerges(const TokenizerSpec& spec) {
  std::vector<float> order = spec.scores;
  std::sort(order.begin(), order.end(), std::greater<>());
  for (const auto& [token, id] : by_letters_) {
    const auto rank = static_cast<int32_t>(
        std::lower_bound(order.begin(), order.end(), spec.scores[id], std::greater<>()) -
        order.begin());
    const absl::string_view letters = token;
    for (size_t at = DecodeUtf8(letters, 0).length; at < letters.size();
         at += DecodeUtf8(letters, at).length) {
      const auto left = by_letters_.find(letters.substr(0, at));
      const auto right = by_letters_.find(letters.substr(at));
      if (left == by_letters_.end() || right == by_letters_.end()) continue;
      merges_.try_emplace(PairKey(left->second, right->second), Merge{rank, id});
    }
  }
}

void BpeTokenizer::ComputeDigest(const TokenizerSpec& spec) {
  DigestBuilder builder;
  for (const std::string& token : spec.tokens) builder.Add("token", token);
  for (const auto& [left, right] : spec.merges) builder.Add("left", left).Add("right", right);
  builder.Add("special", absl::MakeConstSpan(spec.special));
  builder.AddInt("pre_tokenizer", static_cast<int>(spec.pre_tokenizer));
  builder.AddInt("nfc", spec.nfc).AddInt("ignore_merges", spec.ignore_merges);
  if (!spec.scores.empty()) {
    builder.Add("scores", ByteView(reinterpret_cast<const uint8_t*>(spec.scores.data()),
                                   spec.scores.size() * sizeof(float)));
  }
  if (!spec.user_symbols.empty()) {
    builder.Add("user_symbols", absl::MakeConstSpan(spec.user_symbols));
  }
  builder.AddInt("add_bos", spec.add_bos).AddInt("bos", spec.bos.value_or(-1));
  digest_ = builder.AddInt("eos", spec.eos.value_or(-1)).Finish();
}

absl::Status BpeTokenizer::Init(const TokenizerSpec& spec) {
  sentencepiece_ = spec.pre_tokenizer == PreTokenizer::kSentencePiece;
  ASSIGN_OR_RETURN(splitter_, WordSplitter::Create(spec.pre_tokenizer));
  RETURN_IF_ERROR(AddVocabulary(spec));
  RETURN_IF_ERROR(AddMerges(spec));
  if (!spec.scores.empty()) AddScoredMerges(spec);
  nfc_ = spec.nfc;
  ignore_merges_ = spec.ignore_merges;
  add_bos_ = spec.add_bos;
  bos_ = spec.bos;
  eos_ = spec.eos;
  ComputeDigest(spec);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenId>> BpeTokenizer::Encode(absl::string_view text) const {
  if (const auto invalid = FindInvalidUtf8(text)) {
    return absl::InvalidArgumentError(absl::StrCat("text is not valid UTF-8 at byte ", *invalid));
  }
  if (sentencepiece_) return EncodeSentencePiece(text);
  return EncodeWords(text);
}

// The symbols that merging starts from: characters, or the bytes of one that is no token.
std::vector<TokenId> BpeTokenizer::Characters(absl::string_view piece) const {
  std::vector<TokenId> symbols;
  for (size_t at = 0; at < piece.size();) {
    const absl::string_view character = piece.substr(at, DecodeUtf8(piece, at).length);
    at += character.size();
    const auto found = by_letters_.find(character == " " ? kSpaceLetter : character);
    if (found != by_letters_.end()) {
      symbols.push_back(found->second);
      continue;
    }
    for (const char byte : character) symbols.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
  }
  return symbols;
}

std::vector<TokenId> BpeTokenizer::EncodeSentencePiece(absl::string_view text) const {
  std::vector<TokenId> ids;
  size_t begin = 0;  // of what lies between two user symbols
  const auto merge = [&](size_t end) {
    WordMerger(merges_, Characters(text.substr(begin, end - begin))).Run(ids);
  };
  for (size_t at = 0; at < text.size();) {
    const std::optional<UserSymbols::Match> symbol = user_symbols_.Longest(text.substr(at));
    if (!symbol) {
      ++at;
      continue;
    }
    merge(at);
    ids.push_back(symbol->id);
    at += symbol->length;
    begin = at;
  }
  merge(text.size());
  return ids;
}

absl::StatusOr<std::vector<TokenId>> BpeTokenizer::EncodeWords(absl::string_view text) const {
  std::string composed;
  if (nfc_) {
    ASSIGN_OR_RETURN(composed, ToNfc(text));
    text = composed;
  }
  std::vector<TokenId> ids;
  ASSIGN_OR_RETURN(const std::vector<absl::string_view> words, splitter_->Split(text));
  for (const absl::string_view word : words) {
    if (ignore_merges_) {
      if (const auto whole = by_bytes_.find(word); whole != by_bytes_.end()) {
        ids.push_back(whole->second);
        continue;
      }
    }
    std::vector<TokenId> symbols;
    symbols.reserve(word.size());
    for (const char byte : word) {
      const TokenId id = byte_ids_[static_cast<uint8_t>(byte)];
      if (id != kNoToken) symbols.push_back(id);
    }
    WordMerger(merges_, std::move(symbols)).Run(ids);
  }
  return ids;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateBpeTokenizer(const TokenizerSpec& spec) {
  auto tokenizer = std::make_unique<BpeTokenizer>();
  RETURN_IF_ERROR(tokenizer->Init(spec));
  return tokenizer;
}

}  // namespace reprise
