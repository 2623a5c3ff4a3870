// Archives of cached entries from outside: what is read from them is what was written, or nothing.
#include "core/engine/cache_archive.h"
#include "core/engine/cache_entries.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {
namespace {

ArchiveFormat Format() {
  ArchiveFormat format;
  format.meaning.fill(3);
  format.block_bytes = 8;
  format.max_tokens = 200;
  return format;
}

ArchivedEntry Entry(int tokens) {
  ArchivedEntry entry;
  for (int i = 0; i < tokens; ++i) entry.ids.push_back(i * 7 % 256);
  for (int i = 0; i * kSegmentTokens < tokens; ++i) {
    entry.payloads.emplace_back(SegmentPayloadBytes(Format(), tokens, static_cast<size_t>(i)),
                                static_cast<uint8_t>(i + tokens));
  }
  return entry;
}

std::string Archive(const std::vector<int>& sizes) {
  ArchiveWriter writer(Format());
  std::string bytes = writer.Begin();
  for (const int tokens : sizes) bytes += writer.Add(Entry(tokens));
  return bytes + writer.End();
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  return {Archive({}), Archive({1}), Archive({16, 64}), Archive({65, 17, 200})};
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;
  using fuzz::Require;
  const std::string text(fuzz::Text(data, size));
  (void)DecodeCursor(text.substr(0, 120));
  ArchiveReader reader(fuzz::Format());
  const size_t piece = size == 0 ? 1 : 1 + data[size - 1] % 64;
  for (size_t at = 0; at < text.size(); at += piece) {
    reader.Push(absl::string_view(text).substr(at, piece));
    while (true) {
      const auto entry = reader.Next();
      if (!entry.ok()) return 0;
      if (!entry->has_value()) break;
      const auto tokens = static_cast<int64_t>((*entry)->ids.size());
      Require(tokens >= 1 && tokens <= fuzz::Format().max_tokens, "an entry has a size it may");
      // A digest covers each byte, so only what the writer wrote is ever read.
      const ArchivedEntry written = fuzz::Entry(static_cast<int>(tokens));
      Require((*entry)->ids == written.ids && (*entry)->payloads == written.payloads,
              "what is read was written");
    }
  }
  return 0;
}
