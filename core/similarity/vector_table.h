// VectorTable: vectors in slots, their ids, and which of them are deleted.
//
// A graph names vectors by slot, so what it covers is only marked when it is deleted (a
// tombstone); what it does not cover leaves no trace.
// Threading  not thread-safe; FaissIndex guards it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"

namespace reprise {

class VectorTable {
 public:
  explicit VectorTable(int dimensions) : dimensions_(dimensions) {}

  int dimensions() const { return dimensions_; }
  int64_t slots() const { return static_cast<int64_t>(ids_.size()); }
  int64_t live() const { return static_cast<int64_t>(slot_of_.size()); }
  int64_t dead() const { return slots() - live(); }

  const float* data() const { return vectors_.data(); }  // [slots, dimensions]
  absl::Span<const float> vector(int64_t slot) const {
    return absl::MakeConstSpan(vectors_).subspan(static_cast<size_t>(slot * dimensions_),
                                                 static_cast<size_t>(dimensions_));
  }
  uint64_t id(int64_t slot) const { return ids_[static_cast<size_t>(slot)]; }
  bool is_dead(int64_t slot) const { return dead_[static_cast<size_t>(slot)] != 0; }

  std::optional<int64_t> Find(uint64_t id) const;  // of a live one

  void Reserve(int64_t slots);

  // Into a new slot; `id` must not be live.
  void Append(uint64_t id, absl::Span<const float> vector);

  // A slot that was deleted before it came here.
  void AppendDead(uint64_t id, absl::Span<const float> vector);

  // Deletes a live slot that a graph covers.
  void Bury(int64_t slot);

  // Deletes a live slot that none covers; the last slot takes its place.
  void Drop(int64_t slot);

  absl::Span<const uint64_t> ids() const { return ids_; }
  absl::Span<const uint8_t> dead_flags() const { return dead_; }
  absl::Span<const float> vectors() const { return vectors_; }

 private:
  void Push(uint64_t id, absl::Span<const float> vector, uint8_t dead);

  int dimensions_;
  std::vector<float> vectors_;
  std::vector<uint64_t> ids_;                       // by slot
  std::vector<uint8_t> dead_;                       // by slot: 1 for a tombstone
  absl::flat_hash_map<uint64_t, int64_t> slot_of_;  // live ones
};

}  // namespace reprise
