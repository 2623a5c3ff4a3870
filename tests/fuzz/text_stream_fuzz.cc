// Streamed text: the incremental detokeniser and the stop matcher. An input is a byte
// that says how text is cut, stop sequences a line each, an empty line, the bytes of
// the reply.
#include <set>

#include "absl/strings/str_split.h"
#include "core/text/incremental_text.h"
#include "core/text/utf8.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {
namespace {

// Ids are lengths: token n is the next n bytes of a text.
class PieceTokenizer final : public Tokenizer {
 public:
  explicit PieceTokenizer(absl::string_view text) : text_(text) {}

  absl::string_view TokenBytes(TokenId id) const override {
    const absl::string_view bytes = text_.substr(at_, static_cast<size_t>(id));
    at_ += bytes.size();
    return bytes;
  }
  absl::StatusOr<std::vector<TokenId>> Encode(absl::string_view) const override {
    return absl::UnimplementedError("not a text tokenizer");
  }
  std::optional<TokenId> SpecialToken(absl::string_view) const override { return std::nullopt; }
  bool IsSpecial(TokenId) const override { return false; }
  int32_t vocabulary_size() const override { return 1 << 30; }
  std::optional<TokenId> bos_id() const override { return std::nullopt; }
  std::optional<TokenId> eos_id() const override { return std::nullopt; }
  bool add_bos() const override { return false; }
  const Digest& digest() const override { return digest_; }

 private:
  absl::string_view text_;
  mutable size_t at_ = 0;
  Digest digest_{};
};

struct Reply {
  std::string text;
  std::string stop;
  bool operator==(const Reply&) const = default;
};

// Streams `bytes` in pieces of 1 to `most` bytes; 0 is all at once.
Reply Stream(absl::string_view bytes, const std::vector<std::string>& stops, size_t most) {
  const PieceTokenizer tokenizer(bytes);
  IncrementalDetokenizer detokenizer(&tokenizer);
  StopMatcher matcher(stops);
  Reply reply;
  const auto push = [&](const std::string& text) {
    Require(!FindInvalidUtf8(text), "text is valid UTF-8");
    const StopMatcher::Output output = matcher.Push(text);
    Require(!FindInvalidUtf8(output.text), "a chunk is valid UTF-8");
    reply.text += output.text;
    if (output.stop) reply.stop = *output.stop;
  };
  for (size_t at = 0, i = 0; at < bytes.size(); ++i) {
    const size_t size = most == 0 ? bytes.size() : 1 + (i * 7 + at) % most;
    push(detokenizer.Push(static_cast<TokenId>(size)));
    at += size;
  }
  push(detokenizer.Finish());
  reply.text += matcher.Finish();
  return reply;
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {
      std::string("\3END\nEN\n\nA reply \xE2\x82\xAC with \xF0\x9F\x98\x80 EN and END and more"),
      std::string("\1\n\nno stops \xC3\xA9\xFF\xC3 half"),
      std::string("\2abc\nb\nabab\n\nxxababababcxx"),
      std::string("\5\xE2\x82\xAC\n\n1\xE2\x82\xAC 2\xE2\x82")};
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(fuzz::Text(data, size), absl::MaxSplits("\n\n", 1));
  if (parts.first.empty()) return 0;
  std::vector<std::string> stops = absl::StrSplit(parts.first.substr(1), '\n');
  // Requests come as protobuf, whose strings are UTF-8; request_checks bounds the rest.
  std::erase_if(stops, [](const std::string& s) { return FindInvalidUtf8(s) || s.size() > 256; });
  stops.resize(std::min<size_t>(stops.size(), 16));
  const absl::string_view bytes = parts.second;
  const fuzz::Reply whole = fuzz::Stream(bytes, stops, 0);
  fuzz::Require(fuzz::Stream(bytes, stops, data[0] % 17 + 1) == whole,
                "chunks add up to the text that comes at once");
  for (const std::string& stop : stops) {
    fuzz::Require(stop.empty() || whole.text.find(stop) == std::string::npos,
                  "text holds no stop sequence");
  }
  if (!FindInvalidUtf8(bytes) && whole.stop.empty()) {
    fuzz::Require(whole.text == bytes, "valid text comes out as it went in");
  }
  return 0;
}
