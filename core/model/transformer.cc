#include "core/model/transformer.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_join.h"

namespace reprise {
namespace {

// Rows of each thread that take a layer together: enough to use what is read of the weights, few
// enough for their activations to stay in cache; in whole tiles of products (12) and attention
// (48) and blocks of KV (16).
constexpr size_t kChunkRows = 96;

size_t QSize(const ModelConfig& c) { return size_t(c.num_heads) * c.head_dim; }
size_t KvSize(const ModelConfig& c) { return size_t(c.num_kv_heads) * c.head_dim; }

// The pass in chunks of at most `most` rows. Those of one sequence are in order, so that a
// layer may run them one after another.
std::vector<Pass> SplitRows(const Pass& pass, size_t most) {
  std::vector<Pass> chunks;
  for (const PassSequence& sequence : pass.sequences) {
    for (size_t row = 0; row < sequence.rows;) {
      if (chunks.empty() || chunks.back().positions.size() == most) {
        chunks.emplace_back().first_row = sequence.first_row + row;
      }
      Pass& chunk = chunks.back();
      const size_t first = chunk.positions.size();
      const size_t rows = std::min(most - first, sequence.rows - row);
      chunk.sequences.push_back(
          {first, rows, sequence.first_slot + static_cast<int32_t>(row), sequence.blocks});
      const auto positions = pass.positions.begin() + sequence.first_row + row;
      chunk.positions.insert(chunk.positions.end(), positions, positions + rows);
      row += rows;
    }
  }
  return chunks;
}

}  // namespace

Transformer::Transformer(const ModelConfig& config, const Kernels& kernels, ThreadPool& pool)
    : config_(config),
      traits_(TraitsOf(config.architecture)),
      kernels_(kernels),
      pool_(pool),
      input_(kernels, pool),
      scratch_(pool.num_threads()) {
  if (!traits_.rotary()) return;
  rotary_.emplace(config_.rope, config_.context_length);
  if (config_.local_rope) local_rotary_.emplace(*config_.local_rope, config_.context_length);
}

void Transformer::Reserve(const Pass& pass) {
  const int32_t last_position = *std::max_element(pass.positions.begin(), pass.positions.end());
  if (rotary_) rotary_->Reserve(last_position + 1);
  if (local_rotary_) local_rotary_->Reserve(last_position + 1);
  const size_t rows = pass.tokens.size();
  if (rows > reserved_rows_) {
    const size_t chunk = std::min(rows, kChunkRows * pool_.num_threads());
    x_ = MakeAligned<float>(rows * config_.hidden_size);
    normed_ = MakeAligned<float>(rows * config_.hidden_size);
    qkv_ = MakeAligned<float>(chunk * (QSize(config_) + 2 * KvSize(config_)));
    attended_ = MakeAligned<float>(chunk * QSize(config_));
    up_ = MakeAligned<float>(chunk * layers_[0].up.features());
    reserved_rows_ = rows;  // now that memory was there for all
  }
  int32_t last_slot = 0;
  for (const PassSequence& sequence : pass.sequences) {
    const int32_t end = sequence.first_slot + static_cast<int32_t>(sequence.rows);
    last_slot = std::max(last_slot, end - 1);
  }
  const size_t group = config_.num_heads / config_.num_kv_heads;
  const size_t needed = AttentionScratchFloats(group, config_.head_dim, last_slot);
  if (needed <= scratch_floats_) return;
  for (auto& scratch : scratch_) scratch = MakeAligned<float>(needed);
  scratch_floats_ = needed;
}

void Transformer::Embed(const Pass& pass) {
  const size_t hidden = config_.hidden_size;
  const auto scale = static_cast<float>(config_.embedding_scale);
  pool_.ParallelFor(pass.tokens.size(), [&](size_t row, int) {
    float* x = Residual(row);
    token_embedding_.parts()[0].GetRow(pass.tokens[row], x);
    if (scale != 1.0f) {
      for (size_t i = 0; i < hidden; ++i) x[i] *= scale;
    }
    if (position_embedding_.empty()) return;
    const float* position = position_embedding_.data() + pass.positions[row] * hidden;
    for (size_t i = 0; i < hidden; ++i) x[i] += position[i];
  });
}

const RotaryTable* Transformer::Rotary(int layer) const {
  if (!rotary_) return nullptr;
  return local_rotary_ && config_.window(layer) > 0 ? &*local_rotary_ : &*rotary_;
}

void Transformer::ApplyNorm(const Norm& norm, const float* x, float* y) const {
  const size_t size = norm.weight.size();
  const auto epsilon = static_cast<float>(config_.norm_epsilon);
  if (norm.bias.empty()) {
    kernels_.rms_norm(x, norm.weight.data(), epsilon, size, y);
  } else {
    kernels_.layer_norm(x, norm.weight.data(), norm.bias.data(), epsilon, size, y);
  }
}

// y = linear(x); `before` computes a row of x just before it is prepared.
template <typename RowTask>
void Transformer::MultiplyRows(const Linear& linear, const InputRows& x, const RowTask& before,
                               float* y, bool accumulate) {
  input_.Begin(linear, x.x, x.stride, x.rows);
  pool_.ParallelFor(x.rows, [&](size_t row, int) {
    before(row);
    input_.PrepareRow(row);
  });
  input_.Multiply(linear, y, accumulate);
}

void Transformer::MultiplyNormed(const Norm& norm, const Linear& linear, const Pass& chunk,
                                 float* y) {
  const size_t hidden = config_.hidden_size;
  const auto apply = [&](size_t row) {
    ApplyNorm(norm, Residual(chunk.first_row + row), normed_.get() + row * hidden);
  };
  MultiplyRows(linear, {normed_.get(), hidden, chunk.positions.size(), chunk.first_row}, apply, y,
               /*accumulate=*/false);
}

// Adds norm(linear(x)), or linear(x) for an empty norm, to the residual stream.
template <typename RowTask>
void Transformer::AddToResidual(const Linear& linear, const Norm& norm, const InputRows& x,
                                const RowTask& before) {
  if (norm.empty()) return MultiplyRows(linear, x, before, Residual(x.first_row), true);
  const size_t hidden = config_.hidden_size;
  MultiplyRows(linear, x, before, normed_.get(), /*accumulate=*/false);
  pool_.ParallelFor(x.rows, [&](size_t row, int) {
    float* added = normed_.get() + row * hidden;
    float* to = Residual(x.first_row + row);
    ApplyNorm(norm, added, added);
    for (size_t i = 0; i < hidden; ++i) to[i] += added[i];
  });
}

// Heads of q and k, which lie one after another, become what attention compares.
void Transformer::RotateHeads(int layer, float* qk, int32_t position) const {
  const Layer& weights = layers_[layer];
  const RotaryTable* rotary = Rotary(layer);
  for (int h = 0; h < config_.num_heads + config_.num_kv_heads; ++h) {
    float* head = qk + size_t(h) * config_.head_dim;
    const Norm& norm = h < config_.num_heads ? weights.q_norm : weights.k_norm;
    if (!norm.empty()) ApplyNorm(norm, head, head);
    if (rotary != nullptr) rotary->Rotate(head, position);
  }
}

// Rotates q and k of a row, then stores its k and v.
void Transformer::StoreRow(int layer, size_t row, const KvSlot& slot, KvPool& kv) {
  const size_t q_size = QSize(config_), kv_size = KvSize(config_);
  float* q = qkv_.get() + row * (q_size + 2 * kv_size);
  RotateHeads(layer, q, slot.position);
  // What the row attends to is written here only later.
  auto* rounded = reinterpret_cast<uint8_t*>(attended_.get() + row * q_size);
  for (const bool value : {false, true}) {
    kernels_.round_row(kv.dtype(), q + q_size + (value ? kv_size : 0), kv_size, rounded);
    kv.StoreRow(slot.block, layer, value, slot.index % kBlockTokens, rounded);
  }
}

// Rows of one block are stored by one thread, since slots share words of memory.
void Transformer::StoreKv(int layer, const Pass& chunk, KvPool& kv) {
  std::vector<KvSlot> slots;       // [rows]
  std::vector<size_t> first_rows;  // of each run within a block
  for (const PassSequence& sequence : chunk.sequences) {
    for (size_t i = 0; i < sequence.rows; ++i) {
      const int32_t index = sequence.first_slot + static_cast<int32_t>(i);
      if (i == 0 || index % kBlockTokens == 0) first_rows.push_back(slots.size());
      slots.push_back(
          {sequence.blocks[index / kBlockTokens], index, chunk.positions[slots.size()]});
    }
  }
  first_rows.push_back(slots.size());
  pool_.ParallelFor(first_rows.size() - 1, [&](size_t run, int) {
    for (size_t row = first_rows[run]; row < first_rows[run + 1]; ++row) {
      StoreRow(layer, row, slots[row], kv);
    }
  });
}

// Tiles of a chunk: runs of rows of one KV head, or runs of KV heads of a single row.
Transformer::AttentionTasks Transformer::SplitAttention(const Pass& chunk) const {
  const size_t kv_heads = config_.num_kv_heads;
  const size_t most = AttentionRows(config_.num_heads / kv_heads);
  // Of single rows: long runs read memory as it lies, several for each thread share the work.
  const size_t wanted = (chunk.sequences.size() > 1 ? 4 : 1) * pool_.num_threads();
  const size_t run = std::clamp<size_t>(chunk.sequences.size() * kv_heads / wanted, 1, most);
  AttentionTasks tasks;
  for (const PassSequence& sequence : chunk.sequences) {
    const size_t rows = std::min(most, sequence.rows), heads = rows == 1 ? run : 1;
    for (size_t first = 0; first < sequence.rows; first += rows) {
      for (size_t head = 0; head < kv_heads; head += heads) {
        tasks.push_back({&sequence, first, std::min(rows, sequence.rows - first), head,
                         std::min(heads, kv_heads - head)});
      }
    }
  }
  return tasks;
}

void Transformer::AttendTask(int layer, const AttentionTask& task, const KvPool& kv,
                             float* scratch) {
  const size_t q_size = QSize(config_), qkv_size = q_size + 2 * KvSize(config_);
  const double scale = config_.attention_scale;
  const double by_head_dim = 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
  AttentionTile tile;
  tile.rows = task.rows;
  tile.heads = task.heads;
  tile.group = config_.num_heads / config_.num_kv_heads;
  tile.head_dim = config_.head_dim;
  tile.first_position = task.sequence->first_slot + static_cast<int32_t>(task.first_row);
  tile.kv_dtype = kv.dtype();
  tile.window = config_.window(layer);
  tile.scale = static_cast<float>(scale > 0 ? scale : by_head_dim);
  tile.scratch = scratch;
  const size_t row = task.sequence->first_row + task.first_row;
  const size_t column = task.first_head * tile.group * tile.head_dim;
  tile.q = qkv_.get() + row * qkv_size + column;
  tile.q_stride = qkv_size;
  tile.out = attended_.get() + row * q_size + column;
  tile.out_stride = q_size;
  std::vector<const uint8_t*> keys, values;
  const size_t blocks = (tile.first_position + tile.rows + kBlockTokens - 1) / kBlockTokens;
  const auto head = static_cast<int>(task.first_head);
  for (size_t b = 0; b < blocks; ++b) {
    keys.push_back(kv.Head(task.sequence->blocks[b], layer, false, head));
    values.push_back(kv.Head(task.sequence->blocks[b], layer, true, head));
  }
  tile.key_blocks = keys.data();
  tile.value_blocks = values.data();
  kernels_.attend(tile);
}

void Transformer::Attention(int layer, const Pass& chunk, const AttentionTasks& tasks, KvPool& kv) {
  const Layer& weights = layers_[layer];
  MultiplyNormed(weights.attention_norm, weights.qkv, chunk, qkv_.get());
  StoreKv(layer, chunk, kv);
  pool_.ParallelFor(tasks.size(), [&](size_t task, int thread) {
    AttendTask(layer, tasks[task], kv, scratch_[thread].get());
  });
  const size_t rows = chunk.positions.size();
  AddToResidual(weights.attention_output, weights.attention_post_norm,
                {attended_.get(), QSize(config_), rows, chunk.first_row}, [](size_t) {});
}

void Transformer::Mlp(const Layer& layer, const Pass& chunk) {
  using Activation = LayerTraits::Activation;
  const size_t size = config_.intermediate_size;
  const size_t stride = layer.up.features();
  MultiplyNormed(layer.mlp_norm, layer.up, chunk, up_.get());
  const auto activate = [&](size_t row) {
    float* gate = up_.get() + row * stride;
    const float* up = gate + size;
    if (traits_.activation == Activation::kGatedSilu) {
      return kernels_.silu_multiply(gate, up, size);
    }
    kernels_.gelu(gate, size);
    if (traits_.activation == Activation::kGelu) return;
    for (size_t i = 0; i < size; ++i) gate[i] *= up[i];
  };
  AddToResidual(layer.down, layer.mlp_post_norm,
                {up_.get(), stride, chunk.positions.size(), chunk.first_row}, activate);
}

void Transformer::Forward(const Pass& pass, KvPool& kv, std::vector<float>& logits) {
  const size_t hidden = config_.hidden_size;
  Reserve(pass);
  Embed(pass);
  const std::vector<Pass> chunks = SplitRows(pass, kChunkRows * pool_.num_threads());
  std::vector<AttentionTasks> tasks;  // of each chunk, the same in all layers
  tasks.reserve(chunks.size());
  for (const Pass& chunk : chunks) tasks.push_back(SplitAttention(chunk));
  for (size_t i = 0; i < layers_.size(); ++i) {
    for (size_t c = 0; c < chunks.size(); ++c) {
      Attention(static_cast<int>(i), chunks[c], tasks[c], kv);
      Mlp(layers_[i], chunks[c]);
    }
  }
  logits.resize(pass.logit_rows.size() * config_.vocabulary_size);
  if (logits.empty()) return;
  // normed_ collects the wanted rows one after another.
  const auto apply = [&](size_t row) {
    ApplyNorm(final_norm_, Residual(pass.logit_rows[row]), normed_.get() + row * hidden);
  };
  MultiplyRows(lm_head_ ? *lm_head_ : token_embedding_,
               {normed_.get(), hidden, pass.logit_rows.size(), 0}, apply, logits.data(),
               /*accumulate=*/false);
}

template <typename Visit>
void Transformer::ForEachMatrix(const Visit& visit) const {
  const auto parts = [&](const Linear& linear) {
    for (const PackedMatrix& part : linear.parts()) visit(part);
  };
  parts(token_embedding_);
  if (lm_head_) parts(*lm_head_);
  for (const Layer& layer : layers_) {
    for (const Linear* linear : {&layer.qkv, &layer.attention_output, &layer.up, &layer.down}) {
      parts(*linear);
    }
  }
}

std::string Transformer::weight_formats() const {
  std::set<std::string> names;
  ForEachMatrix(
      [&](const PackedMatrix& matrix) { names.insert(WeightFormatName(matrix.format())); });
  return absl::StrJoin(names, "+");
}

int64_t Transformer::weight_bytes() const {
  size_t bytes = position_embedding_.size() * sizeof(float);
  ForEachMatrix([&](const PackedMatrix& matrix) { bytes += matrix.bytes(); });
  return static_cast<int64_t>(bytes);
}

}  // namespace reprise
