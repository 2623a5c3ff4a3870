// An archive of cached entries: what export writes and import reads, as a stream of bytes.
//
//   header   "RPAR", version, digest of what the KV means, bytes of a block
//   entry    1, number of ids, ids, the payload of each segment in order, digest
//   end      0, number of entries, digest
//
// Each digest is the SHA-256 of the digest before it and of the bytes since, so that it stands
// for all of the archive up to it: an entry is only given out once its digest fits, and
// the last digest names the whole. Digests find damage and mixed up pieces; they do not say
// who made an archive, so what is imported must be trusted as the model's files are.
//
// Errors     kDataLoss saying at which entry: damaged, cut off, or not an archive.
//            kInvalidArgument: of another model, format or block size.
// Threading  each object is used by one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/digest.h"
#include "core/base/ids.h"

namespace reprise {

// What an archive must fit: the engine's own.
struct ArchiveFormat {
  Digest meaning{};  // of model, tokenizer, numerics and segment format, no tenant
  int64_t block_bytes = 0;
  int32_t max_tokens = 0;  // of one entry
};

struct ArchivedEntry {
  std::vector<TokenId> ids;
  std::vector<std::vector<uint8_t>> payloads;  // of its segments, in order
};

// Bytes of the payload of segment `index` of an entry of `tokens` ids.
int64_t SegmentPayloadBytes(const ArchiveFormat& format, int64_t tokens, size_t index);

class ArchiveWriter {
 public:
  explicit ArchiveWriter(const ArchiveFormat& format) : format_(format) {}

  // Each returns the next bytes of the archive.
  std::string Begin();
  std::string Add(const ArchivedEntry& entry);
  std::string End();

  const Digest& digest() const { return digest_; }  // of what was written so far

 private:
  std::string Seal(std::string bytes);

  ArchiveFormat format_;
  Digest digest_{};
  uint64_t entries_ = 0;
};

class ArchiveReader {
 public:
  explicit ArchiveReader(const ArchiveFormat& format) : format_(format) {}

  // Takes the next bytes, however the archive was cut up.
  void Push(absl::string_view bytes) { buffer_.append(bytes.data(), bytes.size()); }

  // The next whole entry; nullopt: more bytes are needed, or it is done().
  absl::StatusOr<std::optional<ArchivedEntry>> Next();

  bool done() const { return done_; }
  uint64_t entries() const { return entries_; }
  const Digest& digest() const { return digest_; }

 private:
  absl::StatusOr<bool> ReadHeader();
  absl::StatusOr<std::optional<ArchivedEntry>> ReadEntry();
  absl::StatusOr<bool> CheckSeal(size_t size);
  absl::Status Damaged(absl::string_view problem) const;

  ArchiveFormat format_;
  std::string buffer_;  // not read yet: less than an entry and what was pushed last
  Digest digest_{};
  uint64_t entries_ = 0;
  bool begun_ = false;
  bool done_ = false;
};

}  // namespace reprise
