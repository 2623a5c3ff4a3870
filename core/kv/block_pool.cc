#include "core/kv/block_pool.h"

#include <cassert>

#include "absl/strings/str_cat.h"

namespace reprise {

BlockPool::BlockPool(int32_t num_blocks) : references_(num_blocks, 0) {
  free_.reserve(num_blocks);
  // The back is taken first: low ids are handed out first.
  for (BlockId block = num_blocks - 1; block >= 0; --block) free_.push_back(block);
}

absl::StatusOr<BlockId> BlockPool::Allocate() {
  if (free_.empty()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("all ", num_blocks(), " KV blocks are in use"));
  }
  const BlockId block = free_.back();
  free_.pop_back();
  references_[block] = 1;
  return block;
}

void BlockPool::AddReference(BlockId block) {
  assert(references_[block] > 0);
  ++references_[block];
}

void BlockPool::Release(BlockId block) {
  assert(references_[block] > 0);
  if (--references_[block] == 0) free_.push_back(block);
}

}  // namespace reprise
