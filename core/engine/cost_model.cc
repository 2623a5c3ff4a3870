#include "core/engine/cost_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "core/base/status_macros.h"

namespace reprise {
namespace {

constexpr double kSmoothing = 0.1;        // weight of one observation
constexpr double kDecodeSmoothing = 0.3;  // their time grows with every token, and few are plain
constexpr double kMaxCorrection = 20.0;   // one odd observation must not decide for long
constexpr double kMaxBeside = 4.0;        // rows beside decoding over rows alone, and the inverse
constexpr double kTellingRows = 8.0;      // beside decoding; fewer say less of what a row costs
constexpr int32_t kMaxRows = 1 << 20;     // more than any step has
constexpr int32_t kShort = 16;
constexpr int32_t kLong = 96;
constexpr int32_t kDeep =
    768;  // positions before a pass; what is in their blocks takes no other time

absl::StatusOr<double> TimePass(ModelRunner& runner, const Clock& clock, int32_t tokens,
                                int32_t start) {
  std::vector<BlockId> blocks((start + tokens + kBlockTokens - 1) / kBlockTokens);
  std::iota(blocks.begin(), blocks.end(), 0);
  std::vector<TokenId> ids(tokens);
  for (int32_t i = 0; i < tokens; ++i) ids[i] = (i * 7919 + 1) % runner.vocabulary_size();
  StepSequence sequence;
  sequence.tokens = ids;
  sequence.start_position = start;
  sequence.block_table = blocks;
  sequence.sample = true;
  StepBatch batch;
  batch.sequences.push_back(sequence);
  const absl::Duration before = clock.Monotonic();
  RETURN_IF_ERROR(runner.Step(batch).status());
  return absl::ToDoubleSeconds(clock.Monotonic() - before);
}

double Bounded(double ratio) { return std::clamp(ratio, 1 / kMaxCorrection, kMaxCorrection); }

// Of `rows` rows: their power of two.
int SizeClass(int32_t rows) { return std::bit_width(static_cast<uint32_t>(rows)); }

}  // namespace

double CostModel::RowsSeconds(double n) const {
  return std::max(pass_seconds_, token_seconds_ * n);
}

double CostModel::PairsSeconds(double n, double c) const { return pair_seconds_ * n * (c + n / 2); }

absl::Duration CostModel::PredictPrefill(int32_t new_tokens, int32_t cached_tokens) const {
  return absl::Seconds(rows_factor_ * RowsSeconds(new_tokens) +
                       pairs_factor_ * PairsSeconds(new_tokens, cached_tokens));
}

absl::Duration CostModel::PredictLoad(int64_t bytes) const {
  if (bytes == 0) return absl::ZeroDuration();
  return absl::Seconds(load_seconds_ + static_cast<double>(bytes) * load_byte_seconds_);
}

void CostModel::ObservePrefill(int32_t new_tokens, int32_t cached_tokens, absl::Duration actual) {
  const double rows = RowsSeconds(new_tokens), pairs = PairsSeconds(new_tokens, cached_tokens);
  const double predicted = rows_factor_ * rows + pairs_factor_ * pairs;
  if (predicted <= 0) return;
  const double error = (Bounded(absl::ToDoubleSeconds(actual) / predicted) - 1) * predicted;
  const double step = kSmoothing * error / (rows * rows + pairs * pairs);
  rows_factor_ = Bounded(rows_factor_ + step * rows);
  pairs_factor_ = Bounded(pairs_factor_ + step * pairs);
}

double CostModel::RowSeconds(int32_t cached_tokens) const {
  return token_seconds_ + pair_seconds_ * cached_tokens;
}

absl::Duration CostModel::DecodeStep(int32_t rows) const {
  const auto larger = decode_steps_.upper_bound(SizeClass(rows));
  if (larger == decode_steps_.begin()) return absl::Seconds(pass_seconds_);
  return absl::Seconds(std::prev(larger)->second);
}

int32_t CostModel::PromptRowsWithin(absl::Duration extra, int32_t cached_tokens) const {
  const double rows = absl::ToDoubleSeconds(extra) / (beside_factor_ * RowSeconds(cached_tokens));
  return static_cast<int32_t>(std::clamp(rows, 1.0, double{kMaxRows}));
}

void CostModel::ObserveDecode(int32_t rows, absl::Duration actual) {
  const double seconds = absl::ToDoubleSeconds(actual);
  const auto [known, first] = decode_steps_.try_emplace(SizeClass(rows), seconds);
  if (first) return;
  const double ratio = std::clamp(seconds / std::max(known->second, 1e-9), 0.5, 2.0);
  known->second *= 1 + kDecodeSmoothing * (ratio - 1);
}

void CostModel::ObservePromptRows(int32_t rows, int32_t cached_tokens, absl::Duration extra) {
  const double ratio = absl::ToDoubleSeconds(extra) / (rows * RowSeconds(cached_tokens));
  // The fewer rows, the more of `extra` has other causes: they would leave ever fewer.
  const double weight = kSmoothing * std::min(1.0, rows / kTellingRows);
  beside_factor_ += weight * (std::clamp(ratio, 1 / kMaxBeside, kMaxBeside) - beside_factor_);
}

void CostModel::ObserveLoad(int64_t bytes, absl::Duration actual, int reads) {
  const double seconds = absl::ToDoubleSeconds(actual) - load_seconds_;
  if (bytes == 0 || seconds <= 0) return;
  const double ratio = Bounded(seconds / static_cast<double>(bytes) / load_byte_seconds_);
  // Each read counts, so that a long load of a disk that became slow is believed at once.
  const double weight = 1 - std::pow(1 - kSmoothing, reads);
  load_byte_seconds_ *= 1 + weight * (ratio - 1);
}

absl::Status CostModel::Calibrate(ModelRunner& runner, const Clock& clock) {
  const int32_t room = std::min(runner.context_length(), runner.num_blocks() * kBlockTokens);
  if (room < 2 * kLong) return absl::OkStatus();  // too small to measure; the priors stay
  // The first pass touches cold memory.
  RETURN_IF_ERROR(TimePass(runner, clock, kShort, 0).status());
  ASSIGN_OR_RETURN(const double one, TimePass(runner, clock, 1, kShort));
  ASSIGN_OR_RETURN(const double few, TimePass(runner, clock, kShort, 0));
  ASSIGN_OR_RETURN(const double many, TimePass(runner, clock, kLong, 0));
  const int32_t depth = std::min(kDeep, room - kLong);
  ASSIGN_OR_RETURN(const double behind, TimePass(runner, clock, kLong, depth));
  pass_seconds_ = std::max(one, 1e-6);
  token_seconds_ = std::max((many - few) / (kLong - kShort), 1e-9);
  pair_seconds_ = std::max((behind - many) / (double{kLong} * depth), 0.0);
  return absl::OkStatus();
}

}  // namespace reprise
