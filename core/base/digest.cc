#include "core/base/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // takes the widest vectors that the processor has
#else
#include <xxhash.h>
#endif

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"

namespace reprise {

std::string ToHex(const Digest& digest) { return absl::BytesToHexString(AsText(digest)); }

std::optional<Digest> FromHex(absl::string_view hex) {
  Digest digest{};
  if (hex.size() != 2 * digest.size() || !std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit))
    return std::nullopt;
  const std::string bytes = absl::HexStringToBytes(hex);
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

Digest Sha256(ByteView bytes) {
  Digest digest{};
  EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  return digest;
}

bool EqualInConstantTime(const Digest& a, const Digest& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

struct DigestBuilder::Impl {
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context{EVP_MD_CTX_new()};

  void Update(ByteView bytes) { EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()); }

  void UpdateSize(uint64_t size) {
    Update(ByteView(reinterpret_cast<const uint8_t*>(&size), sizeof(size)));
  }

  void UpdateSized(ByteView bytes) {
    UpdateSize(bytes.size());
    Update(bytes);
  }
};

DigestBuilder::DigestBuilder() : impl_(std::make_unique<Impl>()) {
  EVP_DigestInit_ex(impl_->context.get(), EVP_sha256(), nullptr);
}

DigestBuilder::~DigestBuilder() = default;

DigestBuilder& DigestBuilder::Add(absl::string_view tag, ByteView value) {
  impl_->UpdateSized(AsBytes(tag));
  impl_->UpdateSized(value);
  return *this;
}

DigestBuilder& DigestBuilder::Add(absl::string_view tag, absl::string_view value) {
  return Add(tag, AsBytes(value));
}

DigestBuilder& DigestBuilder::Add(absl::string_view tag, const Digest& value) {
  return Add(tag, ByteView(value));
}

DigestBuilder& DigestBuilder::Add(absl::string_view tag, absl::Span<const TokenId> ids) {
  return Add(tag,
             ByteView(reinterpret_cast<const uint8_t*>(ids.data()), ids.size() * sizeof(TokenId)));
}

DigestBuilder& DigestBuilder::AddInt(absl::string_view tag, int64_t value) {
  return Add(tag, ByteView(reinterpret_cast<const uint8_t*>(&value), sizeof(value)));
}

DigestBuilder& DigestBuilder::Begin(absl::string_view tag, uint64_t size) {
  impl_->UpdateSized(AsBytes(tag));
  impl_->UpdateSize(size);
  return *this;
}

DigestBuilder& DigestBuilder::Continue(ByteView piece) {
  impl_->Update(piece);
  return *this;
}

Digest DigestBuilder::Finish() {
  Digest digest;
  EVP_DigestFinal_ex(impl_->context.get(), digest.data(), nullptr);
  return digest;
}

struct ChecksumBuilder::Impl {
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> state{XXH3_createState()};
};

ChecksumBuilder::ChecksumBuilder() : impl_(std::make_unique<Impl>()) {
  XXH3_128bits_reset(impl_->state.get());
}

ChecksumBuilder::~ChecksumBuilder() = default;

void ChecksumBuilder::Add(ByteView part) {
  XXH3_128bits_update(impl_->state.get(), part.data(), part.size());
}

Checksum128 ChecksumBuilder::Finish() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(impl_->state.get());
  return {hash.low64, hash.high64};
}

Checksum128 Xxh3Checksum(absl::Span<const ByteView> parts) {
  ChecksumBuilder builder;
  for (const ByteView part : parts) builder.Add(part);
  return builder.Finish();
}

}  // namespace reprise
