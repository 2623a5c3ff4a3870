#include "core/model/cuda/pass_plan.h"

#include <algorithm>
#include <cstring>

#include "core/model/cuda/kernel_args.h"
#include "core/model/step_batch.h"

namespace reprise::cuda {
namespace {

constexpr int32_t kTilePairs = 16;
constexpr int32_t kTileWords = sizeof(AttentionTile) / sizeof(int32_t);
constexpr int32_t kLargeSize = 64;
constexpr int32_t kManyPairs = 768;  // more are served faster by wide tiles

// The next power of two up to kLargeSize, its next multiple beyond.
int32_t RoundUp(int32_t count, int32_t smallest) {
  if (count > kLargeSize) return (count + kLargeSize - 1) / kLargeSize * kLargeSize;
  int32_t size = smallest;
  while (size < count) size *= 2;
  return size;
}

// Tiles of a pass whose number is none, or rounded up.
int32_t RoundUpTiles(size_t count) {
  return count == 0 ? 0 : RoundUp(static_cast<int32_t>(count), 1);
}

int32_t CountTiles(int32_t pairs, int32_t of) { return (pairs + of - 1) / of; }

class PassBuilder {
 public:
  explicit PassBuilder(const PassLimits& limits) : limits_(limits) {}

  bool empty() const { return tokens_.empty(); }

  // Rows [first, first + ...) of `sequence` that still fit; at least one on an empty pass.
  int32_t RowsThatFit(const StepSequence& sequence, int32_t first) const {
    const auto rows = static_cast<int32_t>(CountRows(sequence));
    const int32_t first_logit = rows - static_cast<int32_t>(CountLogitRows(sequence));
    int32_t fit = std::min<int32_t>(rows - first, limits_.max_rows - Size(tokens_));
    const int32_t logits_left = limits_.max_logit_rows - Size(logit_rows_);
    fit = std::min(fit, std::max(first_logit - first, 0) + logits_left);
    const int32_t table_left = limits_.max_table_words - Size(tables_);
    const int32_t positions_left = table_left * kBlockTokens - sequence.start_position - first;
    return std::max(std::min(fit, positions_left), empty() ? 1 : 0);
  }

  void Add(const StepSequence& sequence, int32_t first, int32_t rows) {
    const int32_t start = sequence.start_position + first;
    AddTiles(start, rows);
    const auto all = static_cast<int32_t>(CountRows(sequence));
    const int32_t first_logit = all - static_cast<int32_t>(CountLogitRows(sequence));
    for (int32_t i = first; i < first + rows; ++i) {
      if (i >= first_logit) AddLogitRow(sequence);
      const auto known = static_cast<int32_t>(sequence.tokens.size());
      AddRow(sequence, i < known ? sequence.tokens[i] : sequence.draft[i - known], i,
             i + 1 == first + rows);
    }
    const int32_t blocks = (start + rows + kBlockTokens - 1) / kBlockTokens;
    tables_.insert(tables_.end(), sequence.block_table.begin(),
                   sequence.block_table.begin() + blocks);
  }

  PlannedPass Finish() {
    PlannedPass pass;
    pass.logit_rows = Size(logit_rows_);
    pass.shape.rows = RoundUp(Size(tokens_), 8);
    pass.shape.tiles = RoundUpTiles(tiles_.size());
    pass.shape.wide_tiles = RoundUpTiles(wide_tiles_.size());
    pass.shape.logit_rows = logit_rows_.empty() ? 0 : RoundUp(Size(logit_rows_), 1);
    const PassLayout layout(pass.shape);
    pass.words.resize(layout.tables + tables_.size());
    const auto put = [&](int32_t at, const std::vector<int32_t>& words) {
      std::copy(words.begin(), words.end(), pass.words.begin() + at);
    };
    blocks_.resize(pass.shape.rows, -1);
    put(layout.tokens, tokens_);
    put(layout.positions, positions_);
    put(layout.blocks, blocks_);
    put(layout.clears, clears_);
    put(layout.logit_rows, logit_rows_);
    banned_.resize(pass.shape.logit_rows * kMaxBanned, -1);
    put(layout.banned, banned_);
    put(layout.tables, tables_);
    PutTiles(tiles_, &pass.words[layout.tiles]);
    PutTiles(wide_tiles_, &pass.words[layout.wide_tiles]);
    return pass;
  }

 private:
  template <typename T>
  static int32_t Size(const std::vector<T>& list) {
    return static_cast<int32_t>(list.size());
  }

  void AddTiles(int32_t start, int32_t rows) {
    const int32_t pairs = rows * limits_.group;
    const bool wide = limits_.wide && pairs > kManyPairs;
    const int32_t most = wide ? kWidePairs : kTilePairs;
    for (int32_t first = 0; first < pairs; first += most) {
      (wide ? wide_tiles_ : tiles_)
          .push_back({Size(tokens_), start, first, std::min(most, pairs - first), Size(tables_)});
    }
  }

  static void PutTiles(const std::vector<AttentionTile>& tiles, int32_t* words) {
    if (!tiles.empty()) std::memcpy(words, tiles.data(), tiles.size() * sizeof(AttentionTile));
  }

  void AddRow(const StepSequence& sequence, TokenId token, int32_t index, bool last_of_pass) {
    const int32_t position = sequence.start_position + index;
    const int32_t in_block = position % kBlockTokens;
    const bool ends_run = last_of_pass || in_block == kBlockTokens - 1;
    tokens_.push_back(token);
    positions_.push_back(position);
    blocks_.push_back(sequence.block_table[position / kBlockTokens]);
    // What a block held before must not show in its record: whoever writes its first slot
    // sees to it that those after the last one written are zero.
    const bool begun_here = index >= in_block;
    clears_.push_back(ends_run && begun_here ? 1 : 0);
  }

  void AddLogitRow(const StepSequence& sequence) {
    logit_rows_.push_back(Size(tokens_));
    for (size_t i = 0; i < kMaxBanned; ++i) {
      banned_.push_back(i < sequence.banned.size() ? sequence.banned[i] : -1);
    }
  }

  PassLimits limits_;
  std::vector<int32_t> tokens_, positions_, blocks_, clears_, logit_rows_, banned_, tables_;
  std::vector<AttentionTile> tiles_, wide_tiles_;
};

}  // namespace

PassLayout::PassLayout(const PassShape& shape) {
  tokens = 0;
  positions = tokens + shape.rows;
  blocks = positions + shape.rows;
  clears = blocks + shape.rows;
  logit_rows = clears + shape.rows;
  banned = logit_rows + shape.logit_rows;
  tiles = banned + shape.logit_rows * kMaxBanned;
  wide_tiles = tiles + shape.tiles * kTileWords;
  tables = wide_tiles + shape.wide_tiles * kTileWords;
}

std::vector<PlannedPass> PlanPasses(const StepBatch& batch, const PassLimits& limits) {
  std::vector<PlannedPass> passes;
  PassBuilder builder(limits);
  for (const StepSequence& sequence : batch.sequences) {
    const auto rows = static_cast<int32_t>(CountRows(sequence));
    for (int32_t first = 0; first < rows;) {
      const int32_t fit = builder.RowsThatFit(sequence, first);
      if (fit > 0) builder.Add(sequence, first, fit);
      first += std::max(fit, 0);
      if (first == rows) break;
      passes.push_back(builder.Finish());
      builder = PassBuilder(limits);
    }
  }
  if (!builder.empty()) passes.push_back(builder.Finish());
  return passes;
}

int64_t MaxPassWords(const PassLimits& limits) {
  PassShape shape;
  shape.rows = limits.max_rows;
  shape.logit_rows = limits.max_logit_rows;
  // Each row may be a sequence of its own.
  shape.tiles = RoundUp(limits.max_rows * CountTiles(limits.group, kTilePairs), 1);
  shape.wide_tiles = RoundUp(shape.tiles, 1);
  return int64_t{PassLayout(shape).tables} + limits.max_table_words;
}

}  // namespace reprise::cuda
