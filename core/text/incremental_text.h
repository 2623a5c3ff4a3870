// Turns a stream of token ids into a stream of text: never half a UTF-8
// character, and nothing of a stop sequence once one has matched.
//
// Threading  one stream is used by one thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/ids.h"
#include "core/text/tokenizer.h"

namespace reprise {

// Holds back bytes until they form whole UTF-8 characters. Bytes that can never
// be valid become U+FFFD.
class IncrementalDetokenizer {
 public:
  explicit IncrementalDetokenizer(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}

  // Text that became complete with this token; special tokens give none.
  std::string Push(TokenId id);

  // What is still held back, with U+FFFD for an unfinished character.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
};

// Finds the first stop sequence in a stream of text, across token borders: the
// one that is complete first; of two that end together, the longer. How the text
// was cut into pieces makes no difference.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stop_sequences);

  struct Output {
    std::string text;                 // safe to send
    std::optional<std::string> stop;  // the sequence that matched, if one did
  };

  // Adds text; holds back any tail that could begin a stop sequence. After a
  // match every later call returns nothing.
  Output Push(absl::string_view text);

  // The tail held back when the stream ended without a match.
  std::string Finish();

 private:
  std::vector<std::string> stop_sequences_;
  std::string held_;
  bool matched_ = false;
};

}  // namespace reprise
