// BlockPool counts references to a fixed set of KV blocks. Integers only: the
// blocks' memory belongs to the ModelRunner.
//
// Threading  not thread-safe; the engine thread owns it.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/ids.h"

namespace reprise {

class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks);

  // A free block with one reference. kResourceExhausted when none is free.
  absl::StatusOr<BlockId> Allocate();

  void AddReference(BlockId block);

  // Drops a reference; the block becomes free with the last one.
  void Release(BlockId block);

  int32_t references(BlockId block) const { return references_[block]; }
  int32_t num_blocks() const { return static_cast<int32_t>(references_.size()); }
  int32_t num_free() const { return static_cast<int32_t>(free_.size()); }

 private:
  std::vector<int32_t> references_;
  std::vector<BlockId> free_;
};

}  // namespace reprise
