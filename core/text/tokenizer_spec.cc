#include "core/text/tokenizer_spec.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/json.h"
#include "core/base/mapped_file.h"
#include "core/base/status_macros.h"
#include "core/text/sentencepiece.h"

namespace reprise {
namespace {

constexpr int64_t kGgufUnknownToken = 2;  // ggml's token types
constexpr int64_t kGgufControlToken = 3;
constexpr int64_t kGgufUserToken = 4;
constexpr size_t kMaxScoredToken = 1024;
constexpr size_t kMaxVocabulary = size_t{1} << 22;

absl::StatusOr<PreTokenizer> ParseGgufPre(const std::string& name) {
  if (name == "gpt-2" || name == "default") return PreTokenizer::kGpt2;
  if (name == "smollm") return PreTokenizer::kSmolLm;
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") return PreTokenizer::kLlama3;
  if (name == "qwen2") return PreTokenizer::kQwen2;
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.pre is \"", name,
                                                 "\", expected gpt-2, smollm, llama-bpe or qwen2"));
}

absl::StatusOr<std::pair<std::string, std::string>> SplitMerge(absl::string_view merge,
                                                               size_t index) {
  // Byte-level letters hold no space, so the first one separates.
  const size_t space = merge.find(' ');
  if (space == absl::string_view::npos || space == 0 || space + 1 == merge.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer: merge ", index, " \"", merge, "\" is no pair"));
  }
  return std::pair(std::string(merge.substr(0, space)), std::string(merge.substr(space + 1)));
}

absl::StatusOr<std::optional<TokenId>> OptionalId(const GgufFile& file, const char* key) {
  if (!file.Has(key)) return std::optional<TokenId>();
  ASSIGN_OR_RETURN(const int64_t id, file.Int(key));
  if (id < 0 || id > static_cast<int64_t>(kMaxVocabulary)) {
    return absl::InvalidArgumentError(absl::StrCat(key, " is ", id));
  }
  return std::optional<TokenId>(static_cast<TokenId>(id));
}

absl::StatusOr<JsonValue> ReadJson(const std::string& path) {
  ASSIGN_OR_RETURN(const auto map, MappedFile::Open(path));
  auto json = JsonValue::Parse(AsText(map->bytes()));
  if (json.ok()) return json;
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", json.status().message()));
}

// All values of `key` anywhere in a pre_tokenizer description, as text.
void CollectParts(const JsonValue& node, std::vector<std::string>& parts) {
  if (const auto type = node.StringOr("type", ""); type.ok() && !type->empty()) {
    parts.push_back(*type);
  }
  if (const auto list = node.Get("pretokenizers"); list.ok()) {
    for (size_t i = 0; i < list->size(); ++i) {
      if (const auto item = list->At(i); item.ok()) CollectParts(*item, parts);
    }
  }
  if (const auto pattern = node.Get("pattern"); pattern.ok()) {
    if (const auto regex = pattern->StringOr("Regex", ""); regex.ok()) parts.push_back(*regex);
  }
}

absl::StatusOr<PreTokenizer> DetectPreTokenizer(const JsonValue& root) {
  if (!root.Has("pre_tokenizer")) {
    return absl::InvalidArgumentError("pre_tokenizer: missing");
  }
  ASSIGN_OR_RETURN(const JsonValue node, root.Get("pre_tokenizer"));
  std::vector<std::string> parts;
  CollectParts(node, parts);
  const auto has = [&](absl::string_view text) {
    return std::any_of(parts.begin(), parts.end(),
                       [&](const std::string& part) { return absl::StrContains(part, text); });
  };
  if (has("\\p{N}{1,3}")) return PreTokenizer::kLlama3;
  if (has("\\p{L}\\p{N}]?\\p{L}+|\\p{N}|")) return PreTokenizer::kQwen2;
  if (has("Digits") && has("ByteLevel")) return PreTokenizer::kSmolLm;
  if (parts == std::vector<std::string>{"ByteLevel"}) return PreTokenizer::kGpt2;
  return absl::InvalidArgumentError(
      absl::StrCat("pre_tokenizer of type ", parts.empty() ? "?" : parts[0],
                   " is none of GPT-2's, SmolLM's, Llama-3's and Qwen2's"));
}

// {"String": " "}
bool IsSpacePattern(const JsonValue& node) {
  const auto pattern = node.Get("pattern");
  if (!pattern.ok()) return false;
  const auto text = pattern->StringOr("String", "");
  return text.ok() && *text == " ";
}

// Gemma's: spaces become "▁". Splitting at spaces is then no split.
absl::Status CheckSentencePiece(const JsonValue& root) {
  ASSIGN_OR_RETURN(const JsonValue normalizer, root.Get("normalizer"));
  ASSIGN_OR_RETURN(const std::string type, normalizer.StringOr("type", ""));
  ASSIGN_OR_RETURN(const std::string content, normalizer.StringOr("content", ""));
  if (type != "Replace" || !IsSpacePattern(normalizer) || content != kSpaceLetter) {
    return absl::InvalidArgumentError(absl::StrCat(
        "normalizer of type \"", type, "\" beside byte_fallback, expected Replace of \" \"",
        " by \"", kSpaceLetter, "\""));
  }
  if (!root.Has("pre_tokenizer")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const JsonValue split, root.Get("pre_tokenizer"));
  ASSIGN_OR_RETURN(const std::string split_type, split.StringOr("type", ""));
  if (split_type == "Split" && IsSpacePattern(split)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("pre_tokenizer of type \"", split_type,
                                                 "\" beside byte_fallback, expected none"));
}

// Whether text is normalised to form C, the one normalizer these models use.
absl::StatusOr<bool> ReadNormalizer(const JsonValue& root) {
  if (!root.Has("normalizer")) return false;
  ASSIGN_OR_RETURN(const JsonValue normalizer, root.Get("normalizer"));
  ASSIGN_OR_RETURN(const std::string type, normalizer.StringOr("type", ""));
  if (type == "NFC") return true;
  return absl::InvalidArgumentError(
      absl::StrCat("normalizer.type is \"", type, "\", expected NFC or none"));
}

absl::Status CheckVocabularySize(size_t size) {
  if (size > 0 && size <= kMaxVocabulary) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("tokenizer: vocabulary of ", size, ", expected 1 to ", kMaxVocabulary));
}

// `path` names the token's place in the file.
absl::Status SetToken(const std::string& path, const std::string& token, int64_t id,
                      TokenizerSpec& spec) {
  if (id < 0 || id >= static_cast<int64_t>(kMaxVocabulary)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": id ", id, " is not in [0, ", kMaxVocabulary, ")"));
  }
  if (static_cast<size_t>(id) >= spec.tokens.size()) spec.tokens.resize(id + 1);
  std::string& place = spec.tokens[id];
  if (!place.empty() && place != token) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": id ", id, " is also that of \"", place, "\""));
  }
  place = token;
  return absl::OkStatus();
}

absl::StatusOr<JsonValue> GetList(const JsonValue& parent, const char* key) {
  ASSIGN_OR_RETURN(JsonValue list, parent.Get(key));
  if (list.kind() == JsonValue::Kind::kArray) return list;
  return absl::InvalidArgumentError(absl::StrCat(list.path(), ": expected an array"));
}

// "a b" or ["a", "b"].
absl::StatusOr<std::pair<std::string, std::string>> ReadMerge(const JsonValue& merge,
                                                              size_t index) {
  if (merge.kind() != JsonValue::Kind::kArray) {
    ASSIGN_OR_RETURN(const std::string text, merge.AsString());
    return SplitMerge(text, index);
  }
  if (merge.size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(merge.path(), ": ", merge.size(), " elements, expected a pair"));
  }
  ASSIGN_OR_RETURN(const JsonValue left, merge.At(0));
  ASSIGN_OR_RETURN(const JsonValue right, merge.At(1));
  ASSIGN_OR_RETURN(std::string l, left.AsString());
  ASSIGN_OR_RETURN(std::string r, right.AsString());
  return std::pair(std::move(l), std::move(r));
}

absl::Status ReadJsonVocabulary(const JsonValue& root, TokenizerSpec& spec) {
  ASSIGN_OR_RETURN(const JsonValue model, root.Get("model"));
  ASSIGN_OR_RETURN(const std::string type, model.StringOr("type", "BPE"));
  if (type != "BPE") {
    return absl::InvalidArgumentError(absl::StrCat("model.type is \"", type, "\", expected BPE"));
  }
  ASSIGN_OR_RETURN(const JsonValue vocab, model.Get("vocab"));
  ASSIGN_OR_RETURN(const std::vector<std::string> tokens, vocab.Keys());
  for (const std::string& token : tokens) {
    ASSIGN_OR_RETURN(const JsonValue value, vocab.Get(token));
    ASSIGN_OR_RETURN(const int64_t id, value.AsInt());
    RETURN_IF_ERROR(SetToken(value.path(), token, id, spec));
  }
  ASSIGN_OR_RETURN(spec.ignore_merges, model.BoolOr("ignore_merges", false));
  ASSIGN_OR_RETURN(const JsonValue merges, GetList(model, "merges"));
  for (size_t i = 0; i < merges.size(); ++i) {
    ASSIGN_OR_RETURN(const JsonValue merge, merges.At(i));
    ASSIGN_OR_RETURN(auto pair, ReadMerge(merge, i));
    spec.merges.push_back(std::move(pair));
  }
  return absl::OkStatus();
}

absl::Status ReadAddedTokens(const JsonValue& root, TokenizerSpec& spec) {
  if (!root.Has("added_tokens")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const JsonValue added, GetList(root, "added_tokens"));
  for (size_t i = 0; i < added.size(); ++i) {
    ASSIGN_OR_RETURN(const JsonValue token, added.At(i));
    ASSIGN_OR_RETURN(const JsonValue id_value, token.Get("id"));
    ASSIGN_OR_RETURN(const int64_t id, id_value.AsInt());
    ASSIGN_OR_RETURN(const JsonValue content_value, token.Get("content"));
    ASSIGN_OR_RETURN(const std::string content, content_value.AsString());
    RETURN_IF_ERROR(SetToken(token.path(), content, id, spec));
    ASSIGN_OR_RETURN(const bool control, token.BoolOr("special", false));
    // Byte-level models take from text none of what was added; SentencePiece knows the two kinds.
    const bool symbol = spec.pre_tokenizer == PreTokenizer::kSentencePiece && !control;
    (symbol ? spec.user_symbols : spec.special).push_back(static_cast<TokenId>(id));
  }
  return absl::OkStatus();
}

// "eos_token": "</s>" or {"content": "</s>"}.
absl::StatusOr<std::optional<TokenId>> NamedToken(const JsonValue& config, const char* key,
                                                  const TokenizerSpec& spec) {
  if (!config.Has(key)) return std::optional<TokenId>();
  ASSIGN_OR_RETURN(const JsonValue value, config.Get(key));
  const bool is_text = value.kind() == JsonValue::Kind::kString;
  ASSIGN_OR_RETURN(const std::string token,
                   is_text ? value.AsString() : value.StringOr("content", ""));
  const auto found = std::find(spec.tokens.begin(), spec.tokens.end(), token);
  if (found == spec.tokens.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, " \"", token, "\" is not in the vocabulary"));
  }
  return std::optional<TokenId>(static_cast<TokenId>(found - spec.tokens.begin()));
}

absl::Status ReadTokenizerConfig(const JsonValue& config, TokenizerSpec& spec) {
  ASSIGN_OR_RETURN(spec.bos, NamedToken(config, "bos_token", spec));
  ASSIGN_OR_RETURN(spec.eos, NamedToken(config, "eos_token", spec));
  ASSIGN_OR_RETURN(spec.add_bos, config.BoolOr("add_bos_token", false));
  if (config.Has("chat_template")) {
    // Some models give a list of named templates instead; none is then chosen.
    ASSIGN_OR_RETURN(const JsonValue source, config.Get("chat_template"));
    if (source.kind() == JsonValue::Kind::kString) {
      ASSIGN_OR_RETURN(spec.chat_template, source.AsString());
    }
  }
  return absl::OkStatus();
}

absl::Status ReadTokenizerJson(const JsonValue& root, TokenizerSpec& spec) {
  ASSIGN_OR_RETURN(const JsonValue model, root.Get("model"));
  ASSIGN_OR_RETURN(const bool byte_fallback, model.BoolOr("byte_fallback", false));
  if (byte_fallback) {
    RETURN_IF_ERROR(CheckSentencePiece(root));
    spec.pre_tokenizer = PreTokenizer::kSentencePiece;
  } else {
    ASSIGN_OR_RETURN(spec.nfc, ReadNormalizer(root));
    ASSIGN_OR_RETURN(spec.pre_tokenizer, DetectPreTokenizer(root));
  }
  RETURN_IF_ERROR(ReadJsonVocabulary(root, spec));
  RETURN_IF_ERROR(ReadAddedTokens(root, spec));
  return CheckVocabularySize(spec.tokens.size());
}

absl::Status ReadGgufTokenTypes(const GgufFile& file, TokenizerSpec& spec) {
  constexpr char kKey[] = "tokenizer.ggml.token_type";
  if (!file.Has(kKey)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const auto* types, file.Ints(kKey));
  if (types->size() != spec.tokens.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        kKey, " has ", types->size(), " elements, the vocabulary ", spec.tokens.size()));
  }
  const bool sentencepiece = spec.pre_tokenizer == PreTokenizer::kSentencePiece;
  for (size_t i = 0; i < types->size(); ++i) {
    const int64_t type = (*types)[i];
    if (type == kGgufUserToken && sentencepiece) {
      spec.user_symbols.push_back(static_cast<TokenId>(i));
    } else if (type == kGgufControlToken || type == kGgufUserToken ||
               (type == kGgufUnknownToken && sentencepiece)) {
      spec.special.push_back(static_cast<TokenId>(i));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadGgufByteLevel(const GgufFile& file, TokenizerSpec& spec) {
  ASSIGN_OR_RETURN(const std::string pre, file.StringOr("tokenizer.ggml.pre", "gpt-2"));
  ASSIGN_OR_RETURN(spec.pre_tokenizer, ParseGgufPre(pre));
  spec.ignore_merges = spec.pre_tokenizer == PreTokenizer::kLlama3;
  // GGUF has no field for it; Qwen2's own tokenizer.json normalises.
  spec.nfc = spec.pre_tokenizer == PreTokenizer::kQwen2;
  ASSIGN_OR_RETURN(const auto* merges, file.Strings("tokenizer.ggml.merges"));
  for (size_t i = 0; i < merges->size(); ++i) {
    ASSIGN_OR_RETURN(auto pair, SplitMerge((*merges)[i], i));
    spec.merges.push_back(std::move(pair));
  }
  return absl::OkStatus();
}

// Gemma's; Llama 2's puts a space in front of text.
absl::Status ReadGgufSentencePiece(const GgufFile& file, TokenizerSpec& spec) {
  constexpr char kScores[] = "tokenizer.ggml.scores";
  spec.pre_tokenizer = PreTokenizer::kSentencePiece;
  ASSIGN_OR_RETURN(const bool prefix, file.BoolOr("tokenizer.ggml.add_space_prefix", true));
  if (prefix) {
    return absl::InvalidArgumentError("tokenizer.ggml.add_space_prefix is true, expected false");
  }
  ASSIGN_OR_RETURN(const auto* scores, file.Doubles(kScores));
  if (scores->size() != spec.tokens.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        kScores, " has ", scores->size(), " elements, the vocabulary ", spec.tokens.size()));
  }
  for (size_t i = 0; i < scores->size(); ++i) {
    const double score = (*scores)[i];
    if (!std::isfinite(score)) {
      return absl::InvalidArgumentError(absl::StrCat(kScores, " holds ", score));
    }
    // Each way to cut a token in two is looked up.
    if (spec.tokens[i].size() > kMaxScoredToken) {
      return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.tokens: token ", i, " has ",
                                                     spec.tokens[i].size(), " bytes, the limit is ",
                                                     kMaxScoredToken));
    }
    spec.scores.push_back(static_cast<float>(score));
  }
  return absl::OkStatus();
}

absl::Status ReadGgufFields(const GgufFile& file, TokenizerSpec& spec) {
  ASSIGN_OR_RETURN(const std::string model, file.String("tokenizer.ggml.model"));
  if (model != "gpt2" && model != "llama") {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.ggml.model is \"", model,
                     "\", expected gpt2 (byte-level BPE) or llama (SentencePiece BPE)"));
  }
  ASSIGN_OR_RETURN(const auto* tokens, file.Strings("tokenizer.ggml.tokens"));
  RETURN_IF_ERROR(CheckVocabularySize(tokens->size()));
  for (const absl::string_view token : *tokens) spec.tokens.emplace_back(token);
  RETURN_IF_ERROR(model == "gpt2" ? ReadGgufByteLevel(file, spec)
                                  : ReadGgufSentencePiece(file, spec));
  RETURN_IF_ERROR(ReadGgufTokenTypes(file, spec));
  ASSIGN_OR_RETURN(spec.bos, OptionalId(file, "tokenizer.ggml.bos_token_id"));
  ASSIGN_OR_RETURN(spec.eos, OptionalId(file, "tokenizer.ggml.eos_token_id"));
  ASSIGN_OR_RETURN(spec.add_bos, file.BoolOr("tokenizer.ggml.add_bos_token", false));
  ASSIGN_OR_RETURN(spec.chat_template, file.StringOr("tokenizer.chat_template", ""));
  return absl::OkStatus();
}

// A problem of `file`'s content, whatever code it had inside.
absl::Status InFile(absl::string_view file, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", status.message()));
}

}  // namespace

absl::StatusOr<TokenizerSpec> ReadGgufTokenizer(const GgufFile& file) {
  TokenizerSpec spec;
  RETURN_IF_ERROR(InFile("gguf", ReadGgufFields(file, spec)));
  return spec;
}

absl::StatusOr<TokenizerSpec> ReadTokenizerFolder(const std::string& folder) {
  const std::string vocabulary = folder + "/tokenizer.json";
  ASSIGN_OR_RETURN(const JsonValue root, ReadJson(vocabulary));
  TokenizerSpec spec;
  RETURN_IF_ERROR(InFile(vocabulary, ReadTokenizerJson(root, spec)));
  const std::string settings = folder + "/tokenizer_config.json";
  const auto config = ReadJson(settings);
  if (absl::IsNotFound(config.status())) return spec;
  if (!config.ok()) return config.status();
  RETURN_IF_ERROR(InFile(settings, ReadTokenizerConfig(*config, spec)));
  return spec;
}

}  // namespace reprise
