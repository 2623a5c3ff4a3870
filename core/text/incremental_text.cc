#include "core/text/incremental_text.h"

#include <algorithm>

#include "core/text/utf8.h"

namespace reprise {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

}  // namespace

std::string IncrementalDetokenizer::Push(TokenId id) {
  if (tokenizer_->IsSpecial(id)) return "";
  const absl::string_view bytes = tokenizer_->TokenBytes(id);
  pending_.append(bytes.data(), bytes.size());
  std::string text;
  size_t at = 0;
  while (at < pending_.size()) {
    const Utf8Character c = DecodeUtf8(pending_, at);
    if (c.truncated) break;
    if (c.valid) {
      text.append(pending_, at, c.length);
    } else {
      AppendUtf8(kReplacement, text);
    }
    at += c.length;
  }
  pending_.erase(0, at);
  return text;
}

std::string IncrementalDetokenizer::Finish() {
  std::string text;
  if (!pending_.empty()) AppendUtf8(kReplacement, text);
  pending_.clear();
  return text;
}

StopMatcher::StopMatcher(std::vector<std::string> stop_sequences)
    : stop_sequences_(std::move(stop_sequences)) {
  stop_sequences_.erase(std::remove(stop_sequences_.begin(), stop_sequences_.end(), ""),
                        stop_sequences_.end());
}

StopMatcher::Output StopMatcher::Push(absl::string_view text) {
  Output output;
  if (matched_) return output;
  held_.append(text.data(), text.size());
  // The first to end, not to begin: text that is sent cannot wait for a longer one.
  size_t first = 0, first_end = std::string::npos;
  for (const std::string& stop : stop_sequences_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const size_t end = at + stop.size();
    if (end > first_end || (end == first_end && at >= first)) continue;
    first = at;
    first_end = end;
    output.stop = stop;
  }
  if (output.stop) {
    matched_ = true;
    output.text = held_.substr(0, first);
    held_.clear();
    return output;
  }
  // The longest tail that is the beginning of a stop sequence stays held.
  size_t hold = 0;
  for (const std::string& stop : stop_sequences_) {
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > hold; --n) {
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) hold = n;
    }
  }
  // Keep whole characters together: held bytes begin with the stop's first one,
  // which begins a character.
  output.text = held_.substr(0, held_.size() - hold);
  held_.erase(0, held_.size() - hold);
  return output;
}

std::string StopMatcher::Finish() {
  std::string rest;
  if (!matched_) rest.swap(held_);
  return rest;
}

}  // namespace reprise
