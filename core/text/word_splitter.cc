#include "core/text/word_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

// Hugging Face's ByteLevel(use_regex=true).
constexpr char kGpt2[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// Hugging Face's Digits(individual_digits=true). It counts every numeric
// character (Unicode N), as Rust's char::is_numeric does.
constexpr char kSingleDigits[] = R"(\p{N}|\P{N}+)";
constexpr char kLlama3[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::vector<const char*> PatternsOf(PreTokenizer kind) {
  switch (kind) {
    case PreTokenizer::kGpt2:
      return {kGpt2};
    case PreTokenizer::kSmolLm:
      return {kSingleDigits, kGpt2};
    case PreTokenizer::kLlama3:
      return {kLlama3};
    case PreTokenizer::kSentencePiece:
      return {};
    case PreTokenizer::kQwen2:
      return {kQwen2};
  }
  return {};
}

std::string Pcre2Message(int code) {
  char text[256] = {};
  pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(text), sizeof(text));
  return text;
}

struct MatchDataDelete {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

}  // namespace

struct WordSplitter::Pattern {
  struct Delete {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  std::unique_ptr<pcre2_code, Delete> code;

  absl::Status Compile(const char* pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
                             PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
    if (code == nullptr) {
      return absl::InternalError(
          absl::StrCat("word pattern at ", offset, ": ", Pcre2Message(error)));
    }
    // Without JIT on this machine the interpreter serves.
    pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
    return absl::OkStatus();
  }

  absl::Status Cut(absl::string_view text, std::vector<absl::string_view>& words) const {
    const std::unique_ptr<pcre2_match_data, MatchDataDelete> match(
        pcre2_match_data_create_from_pattern(code.get(), nullptr));
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    size_t at = 0;
    while (at < text.size()) {
      const int found = pcre2_match(code.get(), subject, text.size(), at, PCRE2_NO_UTF_CHECK,
                                    match.get(), nullptr);
      if (found == PCRE2_ERROR_NOMATCH) break;
      if (found < 0) {
        return absl::ResourceExhaustedError(absl::StrCat("splitting words: ", Pcre2Message(found)));
      }
      const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.get());
      if (bounds[0] > at) words.push_back(text.substr(at, bounds[0] - at));
      words.push_back(text.substr(bounds[0], bounds[1] - bounds[0]));
      at = bounds[1];
    }
    if (at < text.size()) words.push_back(text.substr(at));
    return absl::OkStatus();
  }
};

WordSplitter::WordSplitter(std::vector<std::unique_ptr<Pattern>> patterns)
    : patterns_(std::move(patterns)) {}

WordSplitter::~WordSplitter() = default;

absl::StatusOr<std::unique_ptr<WordSplitter>> WordSplitter::Create(PreTokenizer kind) {
  std::vector<std::unique_ptr<Pattern>> patterns;
  for (const char* text : PatternsOf(kind)) {
    patterns.push_back(std::make_unique<Pattern>());
    RETURN_IF_ERROR(patterns.back()->Compile(text));
  }
  return std::unique_ptr<WordSplitter>(new WordSplitter(std::move(patterns)));
}

absl::StatusOr<std::vector<absl::string_view>> WordSplitter::Split(absl::string_view text) const {
  std::vector<absl::string_view> pieces = {text};
  for (const auto& pattern : patterns_) {
    std::vector<absl::string_view> finer;
    for (const absl::string_view piece : pieces) RETURN_IF_ERROR(pattern->Cut(piece, finer));
    pieces = std::move(finer);
  }
  return pieces;
}

}  // namespace reprise
