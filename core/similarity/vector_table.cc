#include "core/similarity/vector_table.h"

#include <algorithm>

namespace reprise {

std::optional<int64_t> VectorTable::Find(uint64_t id) const {
  const auto found = slot_of_.find(id);
  if (found == slot_of_.end()) return std::nullopt;
  return found->second;
}

void VectorTable::Reserve(int64_t slots) {
  vectors_.reserve(static_cast<size_t>(slots * dimensions_));
  ids_.reserve(static_cast<size_t>(slots));
  dead_.reserve(static_cast<size_t>(slots));
}

void VectorTable::Push(uint64_t id, absl::Span<const float> vector, uint8_t dead) {
  vectors_.insert(vectors_.end(), vector.begin(), vector.end());
  ids_.push_back(id);
  dead_.push_back(dead);
}

void VectorTable::Append(uint64_t id, absl::Span<const float> vector) {
  slot_of_[id] = slots();
  Push(id, vector, 0);
}

void VectorTable::AppendDead(uint64_t id, absl::Span<const float> vector) { Push(id, vector, 1); }

void VectorTable::Bury(int64_t slot) {
  slot_of_.erase(id(slot));
  dead_[static_cast<size_t>(slot)] = 1;
}

void VectorTable::Drop(int64_t slot) {
  slot_of_.erase(id(slot));
  const int64_t last = slots() - 1;
  if (slot != last) {
    const auto from = vectors_.begin() + last * dimensions_;
    std::copy(from, from + dimensions_, vectors_.begin() + slot * dimensions_);
    ids_[static_cast<size_t>(slot)] = ids_.back();
    dead_[static_cast<size_t>(slot)] = dead_.back();
    if (dead_.back() == 0) slot_of_[ids_.back()] = slot;
  }
  vectors_.resize(static_cast<size_t>(last * dimensions_));
  ids_.pop_back();
  dead_.pop_back();
}

}  // namespace reprise
