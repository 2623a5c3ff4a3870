// PlanPasses cuts a step into passes that the device's buffers hold and writes down what
// the kernels read of each, as one array of 32-bit words that is copied at once.
//
// Shapes are rounded up to a few sizes, so that a captured graph serves many passes; rows
// and tiles that pad have no KV block and no pairs. Exactness makes both free: no bit
// depends on where a step is cut or on what pads it.
// Threading  pure functions.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "core/model/model_runner.h"

namespace reprise::cuda {

struct PassShape {
  int32_t rows = 0, tiles = 0, wide_tiles = 0, logit_rows = 0;

  auto operator<=>(const PassShape&) const = default;
};

// Where each part begins in the words of a pass of that shape.
struct PassLayout {
  explicit PassLayout(const PassShape& shape);

  int32_t tokens, positions;  // [rows]
  int32_t blocks, clears;     // [rows], as RotateArgs says
  int32_t logit_rows;         // [logit_rows] rows whose logits are wanted
  int32_t banned;             // [logit_rows][kMaxBanned]
  int32_t tiles, wide_tiles;  // [tiles], [wide_tiles] AttentionTile
  int32_t tables;             // block tables, one after another
};

struct PassLimits {
  int32_t max_rows, max_logit_rows, max_table_words;
  int32_t group;  // heads that share a KV head
  bool wide;      // long pieces get wide tiles
};

struct PlannedPass {
  PassShape shape;
  int32_t logit_rows = 0;  // without those that pad; in the order of the batch
  std::vector<int32_t> words;
};

// `batch` has been checked. Only the first kMaxBanned banned ids of a sequence are noted.
std::vector<PlannedPass> PlanPasses(const StepBatch& batch, const PassLimits& limits);

// Words that a pass takes at most.
int64_t MaxPassWords(const PassLimits& limits);

}  // namespace reprise::cuda
