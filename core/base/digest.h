// SHA-256 digests over tagged, length-prefixed fields, and XXH3-128 checksums.
//
// Threading  a DigestBuilder is used by one thread; the functions are pure.
// Source     FIPS 180-4 through libcrypto; XXH3 through libxxhash.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/bytes.h"
#include "core/base/ids.h"

namespace reprise {

using Digest = std::array<uint8_t, 32>;

std::string ToHex(const Digest& digest);

// The digest of 64 hexadecimal digits in any case; nullopt for anything else.
std::optional<Digest> FromHex(absl::string_view hex);

// SHA-256 of the bytes alone, as sha256sum prints it. For digests of several fields: DigestBuilder.
Digest Sha256(ByteView bytes);

// In a time that does not depend on where the two differ.
bool EqualInConstantTime(const Digest& a, const Digest& b);

// Hashes a list of fields. Each field is its tag and its bytes, both prefixed
// by their length, so no two different field lists hash the same input.
class DigestBuilder {
 public:
  DigestBuilder();
  ~DigestBuilder();
  DigestBuilder(const DigestBuilder&) = delete;
  DigestBuilder& operator=(const DigestBuilder&) = delete;

  DigestBuilder& Add(absl::string_view tag, ByteView value);
  DigestBuilder& Add(absl::string_view tag, absl::string_view value);
  DigestBuilder& Add(absl::string_view tag, const Digest& value);
  DigestBuilder& Add(absl::string_view tag, absl::Span<const TokenId> ids);
  DigestBuilder& AddInt(absl::string_view tag, int64_t value);

  // A field of `size` bytes that Continue then adds in pieces; the same as one Add.
  DigestBuilder& Begin(absl::string_view tag, uint64_t size);
  DigestBuilder& Continue(ByteView piece);

  // The digest of everything added so far; the builder must not be used after.
  Digest Finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct Checksum128 {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const Checksum128&) const = default;
};

// XXH3-128 of the views read one after the other.
Checksum128 Xxh3Checksum(absl::Span<const ByteView> parts);

// The same of views that are added one by one.
class ChecksumBuilder {
 public:
  ChecksumBuilder();
  ~ChecksumBuilder();
  ChecksumBuilder(const ChecksumBuilder&) = delete;
  ChecksumBuilder& operator=(const ChecksumBuilder&) = delete;

  void Add(ByteView part);
  Checksum128 Finish() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace reprise
