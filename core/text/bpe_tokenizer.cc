#include "core/text/bpe_tokenizer.h"

#include <algorithm>
#include <queue>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/text/byte_alphabet.h"
#include "core/text/nfc.h"
#include "core/text/utf8.h"
#include "core/text/word_splitter.h"

namespace reprise {
namespace {

constexpr TokenId kNoToken = -1;
constexpr int64_t kMaxUnusedIds = 1 << 16;

struct Merge {
  int32_t rank;
  TokenId merged;
};

uint64_t PairKey(TokenId left, TokenId right) {
  return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
}

// A word being merged: a list of symbols linked over an array, with a queue of
// possible merges, so that a word of n bytes costs O(n log n).
class WordMerger {
 public:
  WordMerger(const absl::flat_hash_map<uint64_t, Merge>& merges, std::vector<TokenId> symbols)
      : merges_(merges),
        symbols_(std::move(symbols)),
        next_(symbols_.size()),
        prev_(symbols_.size()) {
    for (size_t i = 0; i < symbols_.size(); ++i) {
      next_[i] = static_cast<int32_t>(i) + 1;
      prev_[i] = static_cast<int32_t>(i) - 1;
    }
    for (size_t i = 0; i + 1 < symbols_.size(); ++i) Offer(static_cast<int32_t>(i));
  }

  void Run(std::vector<TokenId>& out) {
    while (!queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      if (IsStale(best)) continue;
      Apply(best);
    }
    for (size_t i = 0; i < symbols_.size(); i = next_[i]) out.push_back(symbols_[i]);
  }

 private:
  struct Candidate {
    int32_t rank;
    int32_t at;
    TokenId left, right, merged;
    bool operator<(const Candidate& other) const {  // best rank on top, then leftmost
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };

  bool AtEnd(int32_t i) const { return i >= static_cast<int32_t>(symbols_.size()); }

  bool IsStale(const Candidate& c) const {
    return symbols_[c.at] != c.left || AtEnd(next_[c.at]) || symbols_[next_[c.at]] != c.right;
  }

  void Offer(int32_t at) {
    if (at < 0 || AtEnd(next_[at])) return;
    const auto found = merges_.find(PairKey(symbols_[at], symbols_[next_[at]]));
    if (found == merges_.end()) return;
    queue_.push({found->second.rank, at, symbols_[at], symbols_[next_[at]], found->second.merged});
  }

  void Apply(const Candidate& c) {
    const int32_t gone = next_[c.at];
    symbols_[c.at] = c.merged;
    symbols_[gone] = kGone;
    next_[c.at] = next_[gone];
    if (!AtEnd(next_[gone])) prev_[next_[gone]] = c.at;
    Offer(prev_[c.at]);
    Offer(c.at);
  }

  static constexpr TokenId kGone = -1;
  const absl::flat_hash_map<uint64_t, Merge>& merges_;
  std::vector<TokenId> symbols_;
  std::vector<int32_t> next_, prev_;
  std::priority_queue<Candidate> queue_;
};

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
  absl::Status AddMerges(const TokenizerSpec& spec);
  void ComputeDigest(const TokenizerSpec& spec);

  std::unique_ptr<WordSplitter> splitter_;
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
    bytes_.push_back(LettersToBytes(token).value_or(token));
    by_letters_.emplace(token, id);
    by_bytes_.emplace(bytes_.back(), id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    // Some vocabularies (SmolLM's) lack a few control bytes; as in Hugging Face
    // tokenizers, text loses those bytes.
    const auto found = by_letters_.find(ByteLetters()[byte]);
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

void BpeTokenizer::ComputeDigest(const TokenizerSpec& spec) {
  DigestBuilder builder;
  for (const std::string& token : spec.tokens) builder.Add("token", token);
  for (const auto& [left, right] : spec.merges) builder.Add("left", left).Add("right", right);
  builder.Add("special", absl::MakeConstSpan(spec.special));
  builder.AddInt("pre_tokenizer", static_cast<int>(spec.pre_tokenizer));
  builder.AddInt("nfc", spec.nfc).AddInt("ignore_merges", spec.ignore_merges);
  builder.AddInt("add_bos", spec.add_bos).AddInt("bos", spec.bos.value_or(-1));
  digest_ = builder.AddInt("eos", spec.eos.value_or(-1)).Finish();
}

absl::Status BpeTokenizer::Init(const TokenizerSpec& spec) {
  ASSIGN_OR_RETURN(splitter_, WordSplitter::Create(spec.pre_tokenizer));
  RETURN_IF_ERROR(AddVocabulary(spec));
  RETURN_IF_ERROR(AddMerges(spec));
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
