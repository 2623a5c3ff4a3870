#include "core/text/wordpiece_tokenizer.h"

#include <utf8proc.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/base/mapped_file.h"
#include "core/base/status_macros.h"
#include "core/text/nfc.h"
#include "core/text/utf8.h"

namespace reprise {
namespace {

constexpr size_t kMaxWordCharacters = 100;

bool IsSpace(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r' || c == ' ') return true;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP || c == 0x0B || c == 0x0C || c == 0x85;
}

// Control, format, private and surrogate code points; unassigned ones are kept.
bool IsControl(char32_t c) {
  if (c == '\t' || c == '\n' || c == '\r') return false;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS:
      return true;
    default:
      return false;
  }
}

bool IsPunctuation(char32_t c) {
  if ((c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
      (c >= 123 && c <= 126)) {
    return true;
  }
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool IsCjk(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

// Clean text, CJK characters set apart, as code points.
std::u32string CleanText(absl::string_view text) {
  std::u32string clean;
  for (size_t at = 0; at < text.size();) {
    const Utf8Character c = DecodeUtf8(text, at);
    at += c.length;
    if (!c.valid || c.code_point == 0 || c.code_point == 0xFFFD || IsControl(c.code_point))
      continue;
    if (IsSpace(c.code_point)) {
      clean.push_back(' ');
    } else if (IsCjk(c.code_point)) {
      clean.append({' ', c.code_point, ' '});
    } else {
      clean.push_back(c.code_point);
    }
  }
  return clean;
}

// Canonical decomposition without combining marks, then lower case.
std::u32string StripAndLower(const std::u32string& text) {
  std::string utf8;
  for (const char32_t c : text) AppendUtf8(c, utf8);
  std::u32string out;
  for (const char32_t c : ToNfd(utf8)) {
    const auto code_point = static_cast<utf8proc_int32_t>(c);
    if (utf8proc_category(code_point) == UTF8PROC_CATEGORY_MN) continue;
    out.push_back(static_cast<char32_t>(utf8proc_tolower(code_point)));
  }
  return out;
}

std::vector<std::string> SplitWords(const std::u32string& text) {
  std::vector<std::string> words(1);
  for (const char32_t c : text) {
    if (IsSpace(c)) {
      words.emplace_back();
    } else if (IsPunctuation(c)) {
      std::string mark;
      AppendUtf8(c, mark);
      words.push_back(std::move(mark));
      words.emplace_back();
    } else {
      AppendUtf8(c, words.back());
    }
  }
  std::erase(words, "");
  return words;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WordPieceTokenizer>> WordPieceTokenizer::Load(
    const std::string& folder) {
  const std::string path = folder + "/tokenizer.json";
  ASSIGN_OR_RETURN(const auto map, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const JsonValue root, JsonValue::Parse(AsText(map->bytes())));
  ASSIGN_OR_RETURN(const JsonValue model, root.Get("model"));
  ASSIGN_OR_RETURN(const std::string type, model.StringOr("type", ""));
  if (type != "WordPiece") {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": model.type is \"", type, "\", expected WordPiece"));
  }
  ASSIGN_OR_RETURN(const JsonValue vocab, model.Get("vocab"));
  ASSIGN_OR_RETURN(const std::vector<std::string> tokens, vocab.Keys());
  std::unique_ptr<WordPieceTokenizer> tokenizer(new WordPieceTokenizer());
  for (const std::string& token : tokens) {
    ASSIGN_OR_RETURN(const JsonValue value, vocab.Get(token));
    ASSIGN_OR_RETURN(const int64_t id, value.AsInt());
    if (id < 0 || id > (1 << 24)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": token \"", token, "\" has id ", id));
    }
    tokenizer->vocabulary_.emplace(token, static_cast<int32_t>(id));
  }
  for (auto [literal, id] :
       {std::pair("[UNK]", &tokenizer->unknown_), std::pair("[CLS]", &tokenizer->cls_),
        std::pair("[SEP]", &tokenizer->sep_)}) {
    const auto found = tokenizer->vocabulary_.find(literal);
    if (found == tokenizer->vocabulary_.end()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": the vocabulary lacks ", literal));
    }
    *id = found->second;
  }
  return tokenizer;
}

void WordPieceTokenizer::AddWord(const std::string& word, std::vector<int32_t>& ids) const {
  std::vector<size_t> borders;  // byte offsets of characters, and the end
  for (size_t at = 0; at < word.size(); at += DecodeUtf8(word, at).length) borders.push_back(at);
  if (borders.size() > kMaxWordCharacters) {
    ids.push_back(unknown_);
    return;
  }
  borders.push_back(word.size());
  std::vector<int32_t> pieces;
  size_t start = 0;
  while (start + 1 < borders.size()) {
    size_t end = borders.size() - 1;
    for (; end > start; --end) {
      const std::string piece = absl::StrCat(
          start > 0 ? "##" : "", word.substr(borders[start], borders[end] - borders[start]));
      const auto found = vocabulary_.find(piece);
      if (found == vocabulary_.end()) continue;
      pieces.push_back(found->second);
      break;
    }
    if (end == start) {  // a character no piece covers makes the whole word unknown
      ids.push_back(unknown_);
      return;
    }
    start = end;
  }
  ids.insert(ids.end(), pieces.begin(), pieces.end());
}

std::vector<int32_t> WordPieceTokenizer::Encode(absl::string_view text, size_t max_tokens) const {
  std::vector<int32_t> ids = {cls_};
  for (const std::string& word : SplitWords(StripAndLower(CleanText(text)))) {
    AddWord(word, ids);
    if (ids.size() >= max_tokens) break;
  }
  ids.resize(std::min(ids.size(), max_tokens - 1));
  ids.push_back(sep_);
  return ids;
}

}  // namespace reprise
