#include "core/model/transformer.h"

#include <algorithm>
#include <cmath>

namespace reprise {
namespace {

size_t QSize(const ModelConfig& c) { return size_t(c.num_heads) * c.head_dim; }
size_t KvSize(const ModelConfig& c) { return size_t(c.num_kv_heads) * c.head_dim; }

}  // namespace

Transformer::Transformer(const ModelConfig& config, const Kernels& kernels, ThreadPool& pool)
    : config_(config), kernels_(kernels), pool_(pool), scratch_(pool.num_threads()) {
  if (config_.architecture == Architecture::kLlama) {
    rotary_.emplace(config_.rope, config_.context_length);
  }
}

void Transformer::Reserve(size_t rows, int32_t last_position) {
  if (rotary_) rotary_->Reserve(last_position + 1);
  if (rows > reserved_rows_) {
    reserved_rows_ = rows;
    x_ = MakeAligned<float>(rows * config_.hidden_size);
    normed_ = MakeAligned<float>(rows * config_.hidden_size);
    q_ = MakeAligned<float>(rows * QSize(config_));
    k_ = MakeAligned<float>(rows * KvSize(config_));
    v_ = MakeAligned<float>(rows * KvSize(config_));
    attended_ = MakeAligned<float>(rows * QSize(config_));
    gate_ = MakeAligned<float>(rows * config_.intermediate_size);
    up_ = MakeAligned<float>(rows * config_.intermediate_size);
  }
  const size_t group = config_.num_heads / config_.num_kv_heads;
  const size_t needed = AttentionScratchFloats(group, config_.head_dim, last_position);
  if (needed <= scratch_floats_) return;
  scratch_floats_ = needed;
  for (auto& scratch : scratch_) scratch = MakeAligned<float>(needed);
}

void Transformer::Embed(const Pass& pass) {
  const size_t hidden = config_.hidden_size;
  pool_.ParallelFor(pass.tokens.size(), [&](size_t row, int) {
    float* x = x_.get() + row * hidden;
    token_embedding_.GetRow(pass.tokens[row], x);
    if (position_embedding_.empty()) return;
    const float* position = position_embedding_.data() + pass.positions[row] * hidden;
    for (size_t i = 0; i < hidden; ++i) x[i] += position[i];
  });
}

void Transformer::ApplyNorm(const Norm& norm, const float* x, float* y, size_t rows) const {
  const size_t hidden = config_.hidden_size;
  const auto epsilon = static_cast<float>(config_.norm_epsilon);
  pool_.ParallelFor(rows, [&](size_t row, int) {
    const float* from = x + row * hidden;
    float* to = y + row * hidden;
    if (norm.bias.empty()) {
      kernels_.rms_norm(from, norm.weight.data(), epsilon, hidden, to);
    } else {
      kernels_.layer_norm(from, norm.weight.data(), norm.bias.data(), epsilon, hidden, to);
    }
  });
}

void Transformer::Multiply(const Linear& linear, const float* x, size_t rows, float* y,
                           bool accumulate) const {
  const PackedMatrix& weight = linear.weight;
  pool_.ParallelFor(weight.panels(), [&](size_t panel, int) {
    PanelProduct product = weight.Product(panel);
    const size_t first = panel * kernels_.panel_columns;
    product.x = x;
    product.x_stride = weight.depth();
    product.rows = rows;
    product.bias = linear.bias.empty() ? nullptr : linear.bias.data() + first;
    product.y = y + first;
    product.y_stride = weight.features();
    product.accumulate = accumulate;
    kernels_.multiply_panel(product);
  });
}

void Transformer::StoreKv(int layer, const Pass& pass, KvPool& kv) {
  const size_t q_size = QSize(config_);
  const size_t kv_size = KvSize(config_);
  pool_.ParallelFor(pass.sequences.size(), [&](size_t index, int) {
    const PassSequence& sequence = pass.sequences[index];
    for (size_t i = 0; i < sequence.rows; ++i) {
      const size_t row = sequence.first_row + i;
      const int32_t position = pass.positions[row];
      float* k = k_.get() + row * kv_size;
      if (rotary_) {
        for (int h = 0; h < config_.num_heads; ++h) {
          rotary_->Rotate(q_.get() + row * q_size + h * config_.head_dim, position);
        }
        for (int h = 0; h < config_.num_kv_heads; ++h) {
          rotary_->Rotate(k + h * config_.head_dim, position);
        }
      }
      const BlockId block = sequence.blocks[position / kBlockTokens];
      kv.StoreRow(block, layer, false, position % kBlockTokens, k);
      kv.StoreRow(block, layer, true, position % kBlockTokens, v_.get() + row * kv_size);
    }
  });
}

void Transformer::AttendAll(int layer, const Pass& pass, const KvPool& kv) {
  struct Task {
    const PassSequence* sequence;
    size_t first;  // row within the sequence
    int kv_head;
  };
  std::vector<Task> tasks;
  for (const PassSequence& sequence : pass.sequences) {
    for (size_t first = 0; first < sequence.rows; first += kAttentionRows) {
      for (int head = 0; head < config_.num_kv_heads; ++head) {
        tasks.push_back({&sequence, first, head});
      }
    }
  }
  const size_t group = config_.num_heads / config_.num_kv_heads;
  const size_t q_size = QSize(config_);
  pool_.ParallelFor(tasks.size(), [&](size_t index, int thread) {
    const Task& task = tasks[index];
    AttentionTile tile;
    tile.rows = std::min(kAttentionRows, task.sequence->rows - task.first);
    tile.group = group;
    tile.head_dim = config_.head_dim;
    tile.first_position = task.sequence->first_position + static_cast<int32_t>(task.first);
    tile.kv_dtype = kv.dtype();
    tile.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim)));
    tile.scratch = scratch_[thread].get();
    const size_t offset =
        (task.sequence->first_row + task.first) * q_size + task.kv_head * group * config_.head_dim;
    tile.q = q_.get() + offset;
    tile.out = attended_.get() + offset;
    tile.q_stride = tile.out_stride = q_size;
    std::vector<const uint8_t*> keys, values;
    const size_t blocks = (tile.first_position + tile.rows + kBlockTokens - 1) / kBlockTokens;
    for (size_t b = 0; b < blocks; ++b) {
      keys.push_back(kv.Head(task.sequence->blocks[b], layer, false, task.kv_head));
      values.push_back(kv.Head(task.sequence->blocks[b], layer, true, task.kv_head));
    }
    tile.key_blocks = keys.data();
    tile.value_blocks = values.data();
    kernels_.attend(tile);
  });
}

void Transformer::Attention(const Layer& layer, int index, const Pass& pass, KvPool& kv) {
  const size_t rows = pass.tokens.size();
  ApplyNorm(layer.attention_norm, x_.get(), normed_.get(), rows);
  Multiply(layer.q, normed_.get(), rows, q_.get());
  Multiply(layer.k, normed_.get(), rows, k_.get());
  Multiply(layer.v, normed_.get(), rows, v_.get());
  StoreKv(index, pass, kv);
  AttendAll(index, pass, kv);
  Multiply(layer.attention_output, attended_.get(), rows, x_.get(), /*accumulate=*/true);
}

void Transformer::Mlp(const Layer& layer, size_t rows) {
  const size_t size = config_.intermediate_size;
  ApplyNorm(layer.mlp_norm, x_.get(), normed_.get(), rows);
  Multiply(layer.up, normed_.get(), rows, up_.get());
  if (config_.architecture == Architecture::kLlama) {
    Multiply(layer.gate, normed_.get(), rows, gate_.get());
    pool_.ParallelFor(rows, [&](size_t row, int) {
      kernels_.silu_multiply(gate_.get() + row * size, up_.get() + row * size, size);
    });
    Multiply(layer.down, gate_.get(), rows, x_.get(), /*accumulate=*/true);
  } else {
    pool_.ParallelFor(rows, [&](size_t row, int) { kernels_.gelu(up_.get() + row * size, size); });
    Multiply(layer.down, up_.get(), rows, x_.get(), /*accumulate=*/true);
  }
}

void Transformer::Forward(const Pass& pass, KvPool& kv, std::vector<float>& logits) {
  const size_t rows = pass.tokens.size();
  const size_t hidden = config_.hidden_size;
  Reserve(rows, *std::max_element(pass.positions.begin(), pass.positions.end()));
  Embed(pass);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Attention(layers_[i], static_cast<int>(i), pass, kv);
    Mlp(layers_[i], rows);
  }
  // normed_ collects the wanted rows one after another.
  for (size_t i = 0; i < pass.logit_rows.size(); ++i) {
    ApplyNorm(final_norm_, x_.get() + pass.logit_rows[i] * hidden, normed_.get() + i * hidden, 1);
  }
  logits.resize(pass.logit_rows.size() * config_.vocabulary_size);
  const PackedMatrix& head = lm_head_ ? *lm_head_ : token_embedding_;
  pool_.ParallelFor(head.panels(), [&](size_t panel, int) {
    PanelProduct product = head.Product(panel);
    product.x = normed_.get();
    product.x_stride = hidden;
    product.rows = pass.logit_rows.size();
    product.y = logits.data() + panel * kernels_.panel_columns;
    product.y_stride = config_.vocabulary_size;
    kernels_.multiply_panel(product);
  });
}

}  // namespace reprise
