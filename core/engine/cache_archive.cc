#include "core/engine/cache_archive.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/base/bytes.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

constexpr char kMagic[] = "RPAR";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 4 + sizeof(uint32_t) + sizeof(Digest) + sizeof(uint64_t);
constexpr size_t kEntryHead = 1 + sizeof(uint32_t);
constexpr size_t kEndBytes = 1 + sizeof(uint64_t);

template <typename T>
void Append(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T>
T At(absl::string_view bytes, size_t offset) {  // the caller has checked the size
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

Digest Chain(const Digest& before, absl::string_view bytes) {
  return DigestBuilder().Add("before", before).Add("bytes", bytes).Finish();
}

size_t SegmentsOf(int64_t tokens) {
  return static_cast<size_t>((tokens + kSegmentTokens - 1) / kSegmentTokens);
}

}  // namespace

int64_t SegmentPayloadBytes(const ArchiveFormat& format, int64_t tokens, size_t index) {
  const int64_t left = tokens - static_cast<int64_t>(index) * kSegmentTokens;
  const int64_t blocks =
      (std::min<int64_t>(left, kSegmentTokens) + kBlockTokens - 1) / kBlockTokens;
  return blocks * format.block_bytes;
}

std::string ArchiveWriter::Seal(std::string bytes) {
  digest_ = Chain(digest_, bytes);
  Append(bytes, digest_);
  return bytes;
}

std::string ArchiveWriter::Begin() {
  std::string bytes(kMagic, 4);
  Append(bytes, kVersion);
  Append(bytes, format_.meaning);
  Append(bytes, static_cast<uint64_t>(format_.block_bytes));
  digest_ = Chain(digest_, bytes);
  return bytes;
}

std::string ArchiveWriter::Add(const ArchivedEntry& entry) {
  std::string bytes(1, '\1');
  Append(bytes, static_cast<uint32_t>(entry.ids.size()));
  bytes.append(reinterpret_cast<const char*>(entry.ids.data()), entry.ids.size() * sizeof(TokenId));
  for (const std::vector<uint8_t>& payload : entry.payloads) {
    bytes.append(reinterpret_cast<const char*>(payload.data()), payload.size());
  }
  ++entries_;
  return Seal(std::move(bytes));
}

std::string ArchiveWriter::End() {
  std::string bytes(1, '\0');
  Append(bytes, entries_);
  return Seal(std::move(bytes));
}

absl::Status ArchiveReader::Damaged(absl::string_view problem) const {
  return absl::DataLossError(absl::StrCat("archive: ", problem, ", after entry ", entries_));
}

absl::StatusOr<bool> ArchiveReader::ReadHeader() {
  if (buffer_.size() < kHeaderBytes) return false;
  const absl::string_view header = absl::string_view(buffer_).substr(0, kHeaderBytes);
  if (header.substr(0, 4) != kMagic) return Damaged("not an archive of cached entries");
  if (At<uint32_t>(header, 4) != kVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("archive: version ", At<uint32_t>(header, 4), ", expected ", kVersion));
  }
  if (At<Digest>(header, 8) != format_.meaning ||
      At<uint64_t>(header, 8 + sizeof(Digest)) != static_cast<uint64_t>(format_.block_bytes)) {
    return absl::InvalidArgumentError(
        "archive: of another model, tokenizer, KV dtype or kernels than this server's");
  }
  digest_ = Chain(digest_, header);
  buffer_.erase(0, kHeaderBytes);
  begun_ = true;
  return true;
}

// Whether the digest behind the first `size` bytes is there; then it has been checked and kept.
absl::StatusOr<bool> ArchiveReader::CheckSeal(size_t size) {
  if (buffer_.size() < size + sizeof(Digest)) return false;
  const Digest digest = Chain(digest_, absl::string_view(buffer_).substr(0, size));
  if (At<Digest>(buffer_, size) != digest) return Damaged("a digest does not fit");
  digest_ = digest;
  return true;
}

absl::StatusOr<std::optional<ArchivedEntry>> ArchiveReader::ReadEntry() {
  if (buffer_.size() < kEntryHead) return std::nullopt;
  const auto tokens = int64_t{At<uint32_t>(buffer_, 1)};
  if (tokens < 1 || tokens > format_.max_tokens) {
    return Damaged(absl::StrCat(tokens, " tokens, expected 1 to ", format_.max_tokens));
  }
  size_t size = kEntryHead + static_cast<size_t>(tokens) * sizeof(TokenId);
  const size_t payloads_at = size;
  for (size_t i = 0; i < SegmentsOf(tokens); ++i) {
    size += static_cast<size_t>(SegmentPayloadBytes(format_, tokens, i));
  }
  ASSIGN_OR_RETURN(const bool sealed, CheckSeal(size));
  if (!sealed) return std::nullopt;
  ArchivedEntry entry;
  entry.ids.resize(static_cast<size_t>(tokens));
  std::memcpy(entry.ids.data(), buffer_.data() + kEntryHead, payloads_at - kEntryHead);
  size_t at = payloads_at;
  for (size_t i = 0; i < SegmentsOf(tokens); ++i) {
    const auto bytes = static_cast<size_t>(SegmentPayloadBytes(format_, tokens, i));
    entry.payloads.emplace_back(buffer_.begin() + static_cast<int64_t>(at),
                                buffer_.begin() + static_cast<int64_t>(at + bytes));
    at += bytes;
  }
  buffer_.erase(0, size + sizeof(Digest));
  ++entries_;
  return entry;
}

absl::StatusOr<std::optional<ArchivedEntry>> ArchiveReader::Next() {
  if (!begun_) {
    ASSIGN_OR_RETURN(const bool read, ReadHeader());
    if (!read) return std::nullopt;
  }
  if (done_) {
    if (buffer_.empty()) return std::nullopt;
    return Damaged("bytes behind its end");
  }
  if (buffer_.empty()) return std::nullopt;
  if (buffer_[0] == '\1') return ReadEntry();
  if (buffer_[0] != '\0') return Damaged("neither an entry nor the end");
  ASSIGN_OR_RETURN(const bool sealed, CheckSeal(kEndBytes));
  if (!sealed) return std::nullopt;
  if (At<uint64_t>(buffer_, 1) != entries_) return Damaged("a number of entries that is not right");
  buffer_.erase(0, kEndBytes + sizeof(Digest));
  done_ = true;
  return Next();
}

}  // namespace reprise
