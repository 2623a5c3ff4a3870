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
//            kNotFound: no such segment. kDataLoss: the segment is damaged or is
//            not what its key says; it has been removed (quarantined).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/bytes.h"
#include "core/base/digest.h"
#include "core/base/ids.h"

namespace reprise {

using SegmentKey = Digest;

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
  int64_t payload_bytes = 0;   // filled by the store
  int64_t created_unix_ms = 0;
  int64_t last_used_unix_ms = 0;
  int64_t hit_count = 0;
  bool pinned = false;          // not evicted, nor what comes before it
  int64_t expires_unix_ms = 0;  // 0: never
};

struct SegmentWrite {
  SegmentRecord record;
  std::vector<uint8_t> payload;  // the segment's blocks in order
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
  int64_t payload_bytes = 0;  // live
  int64_t disk_bytes = 0;     // files, as du counts them
  int64_t read_bytes = 0;     // payload bytes returned by ReadSegment since open
  int64_t written_bytes = 0;  // payload bytes made durable since open
  int64_t corrupt_count = 0;  // segments refused by ReadSegment since open
  int64_t buffer_bytes = 0;   // memory that write buffers and the cache of reads take
};

// What an eviction removed.
struct Evicted {
  int64_t segments = 0;
  int64_t payload_bytes = 0;
};

class KvStore {
 public:
  virtual ~KvStore() = default;

  // Makes all of `writes` durable. Writing an existing key replaces it.
  virtual absl::Status WriteSegments(absl::Span<const SegmentWrite> writes) = 0;

  // Reads and verifies one segment: checksum over header and payload, ids,
  // identity and size. `out` is exactly the payload's size.
  virtual absl::Status ReadSegment(const SegmentRecord& record, MutableByteView out) = 0;

  // Removes records first, then segments. Unknown keys are no error.
  virtual absl::Status DeleteSegments(absl::Span<const SegmentKey> keys) = 0;

  // Removes segments of other identities than those of `kept`, least recently used first
  // and children before their parents, until at most `max_bytes` of payload of them
  // stay. With its last segment an identity loses its prompts.
  virtual absl::StatusOr<Evicted> EvictOthers(absl::Span<const Digest> kept, int64_t max_bytes) = 0;

  // Stores new hit counts and last-use times (not synced: losing them is harmless).
  virtual absl::Status UpdateUsage(absl::Span<const SegmentRecord> records) = 0;

  // Calls `visit` with every readable record of `identity`, parents before children.
  virtual absl::Status ForEachSegment(const Digest& identity,
                                      const std::function<void(SegmentRecord)>& visit) = 0;

  virtual absl::Status WritePrompt(const PromptRecord& prompt) = 0;
  virtual absl::Status DeletePrompt(const Digest& identity, uint64_t id) = 0;
  virtual absl::Status ForEachPrompt(const Digest& identity,
                                     const std::function<void(PromptRecord)>& visit) = 0;

  virtual StoreStats Stats() const = 0;
};

}  // namespace reprise
