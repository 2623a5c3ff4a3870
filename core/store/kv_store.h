// KvStore keeps KV segments and the prompts they came from beyond the process.
//
// Real: core/store/rocksdb_store.h. Second: core/store/memory_store.h.
// Faults: tests/fakes/faulty_store.h.
//
// Keys       key(segment) = SHA-256(kind || key(parent) || ids); the root is the
//            identity digest of model, tokenizer, numerics, format and tenant.
//            A key finds a value; the value's own header decides whether it is
//            the right one.
// Durability WriteSegments returns OK only when every record and its segment
//            survive a crash; a record is never durable before its segment.
// Threading  all methods are thread-safe.
// Errors     kUnavailable: storage failed, nothing is known about the write.
//            kResourceExhausted: no room below the disk limit; nothing is written.
//            kNotFound: no such segment. kDataLoss: the segment is damaged or is
//            not what its key says; it has been removed (quarantined).
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/bytes.h"
#include "core/base/digest.h"
#include "core/base/ids.h"
#include "core/store/payload_codec.h"

namespace reprise {

using SegmentKey = Digest;

// A key is a SHA-256 already: any of its bytes are a hash.
struct SegmentKeyHash {
  size_t operator()(const SegmentKey& key) const {
    size_t hash = 0;
    std::memcpy(&hash, key.data(), sizeof(hash));
    return hash;
  }
};

enum class SegmentKind : uint8_t { kFull = 1, kTail = 2 };

// The key of `ids` behind `parent` (another segment's key or the identity).
SegmentKey ComputeSegmentKey(SegmentKind kind, const SegmentKey& parent,
                             absl::Span<const TokenId> ids);

// The small index record of one segment or tail.
struct SegmentRecord {
  SegmentKey key{};
  SegmentKey parent{};
  Digest identity{};  // namespace the segment belongs to
  SegmentKind kind = SegmentKind::kFull;
  int32_t start_position = 0;  // multiple of kSegmentTokens
  std::vector<TokenId> ids;    // 1..kSegmentTokens; exactly that many when full
  int64_t payload_bytes = 0;   // as it was; filled by the store unless it is compressed
  int64_t stored_bytes = 0;    // as it lies on disk; filled by the store
  PayloadCodec codec = PayloadCodec::kRaw;
  int64_t created_unix_ms = 0;
  int64_t last_used_unix_ms = 0;
  int64_t hit_count = 0;
  bool pinned = false;          // not evicted, nor what comes before it
  int64_t expires_unix_ms = 0;  // 0: never
  uint64_t cohort = 0;          // filled by the store: which write it lies in, and how many
  int64_t cohort_bytes = 0;     // bytes that write had
};

// Takes a payload in pieces, from the front. Pieces come before the checksum over the whole
// is known: what was taken counts only once the read has returned OK.
struct PayloadSink {
  int64_t piece_bytes = 0;  // of all pieces, the last of which may be shorter
  std::function<absl::Status(size_t index, ByteView piece)> take;
};

struct SegmentWrite {
  SegmentRecord record;
  std::vector<uint8_t> payload;  // the segment's blocks in order, as the record's codec left them
};

// A cached prompt with its sentence embedding: what similarity search returns.
struct PromptRecord {
  uint64_t id = 0;  // unique in the namespace, never 0
  Digest identity{};
  std::vector<TokenId> ids;
  std::vector<float> embedding;  // unit length
  int64_t created_unix_ms = 0;
};

struct StoreStats {
  int64_t segment_count = 0;  // records of all namespaces
  int64_t prompt_count = 0;
  int64_t payload_bytes = 0;  // live, as it lies on disk
  int64_t disk_bytes = 0;     // files, as du counts them
  int64_t read_bytes = 0;     // payload bytes returned by ReadSegment since open
  int64_t written_bytes = 0;  // payload bytes made durable since open
  int64_t corrupt_count = 0;  // segments refused by ReadSegment since open
  int64_t buffer_bytes = 0;   // memory that write buffers and the cache of reads take
  int64_t limit_bytes = 0;    // that disk_bytes is kept below; 0: none
  int64_t free_bytes = 0;     // of the disk, for an unprivileged process
};

// What an eviction removed.
struct Evicted {
  int64_t segments = 0;
  int64_t payload_bytes = 0;
};

class KvStore {
 public:
  virtual ~KvStore() = default;

  // Makes all of `writes` durable. Writing an existing key replaces it. After an error
  // the first of them may be durable.
  virtual absl::Status WriteSegments(absl::Span<const SegmentWrite> writes) = 0;

  // Reads and verifies one segment: checksum over header and payload, ids,
  // identity and size. `out` is exactly the payload's size.
  virtual absl::Status ReadSegment(const SegmentRecord& record, MutableByteView out) = 0;

  // As ReadSegment, piece by piece to where it belongs, without a copy of the whole. An error
  // of the sink ends the read and is returned.
  virtual absl::Status ReadSegmentInto(const SegmentRecord& record, const PayloadSink& sink) = 0;

  // Removes records first, then segments. Unknown keys are no error.
  virtual absl::Status DeleteSegments(absl::Span<const SegmentKey> keys) = 0;

  // Removes segments of other identities than those of `kept`, least recently used first
  // and children before their parents, until at most `max_bytes` of payload of them
  // stay. With its last segment an identity loses its prompts.
  virtual absl::StatusOr<Evicted> EvictOthers(absl::Span<const Digest> kept, int64_t max_bytes) = 0;

  // Stores the hit counts, last-use times and marks of `records`, of which only these and the
  // keys count. Changed marks survive a crash then; losing the others is harmless.
  virtual absl::Status UpdateUsage(absl::Span<const SegmentRecord> records) = 0;

  // Calls `visit` with every readable record of `identity`, parents before children.
  virtual absl::Status ForEachSegment(const Digest& identity,
                                      const std::function<void(SegmentRecord)>& visit) = 0;

  virtual absl::Status WritePrompt(const PromptRecord& prompt) = 0;
  virtual absl::Status DeletePrompt(const Digest& identity, uint64_t id) = 0;
  virtual absl::Status ForEachPrompt(const Digest& identity,
                                     const std::function<void(PromptRecord)>& visit) = 0;

  virtual StoreStats Stats() const = 0;

  // Payload bytes, of all identities, that leave the files below the disk limit with room
  // to write; changes as other files grow. Does not block.
  virtual int64_t PayloadLimit() const { return std::numeric_limits<int64_t>::max(); }
};

}  // namespace reprise
