// WordSplitter cuts text into the words that BPE merges within.
//
// Threading  immutable; safe from any thread.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/text/tokenizer_spec.h"

namespace reprise {

class WordSplitter {
 public:
  static absl::StatusOr<std::unique_ptr<WordSplitter>> Create(PreTokenizer kind);
  ~WordSplitter();

  // Views of `text` (valid UTF-8), in order, covering all of it. kResourceExhausted
  // when the regular expression engine gives up on the text.
  absl::StatusOr<std::vector<absl::string_view>> Split(absl::string_view text) const;

 private:
  struct Pattern;
  explicit WordSplitter(std::vector<std::unique_ptr<Pattern>> patterns);
  std::vector<std::unique_ptr<Pattern>> patterns_;  // each cuts the pieces of the one before
};

}  // namespace reprise
