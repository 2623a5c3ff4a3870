// Transformer: the layers that every architecture is made of, as its LayerTraits
// and ModelConfig say, over packed weights. One pass takes rows of many sequences
// at once.
//
// Threading  Forward is called by one thread; it runs its loops on the pool.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/model/kernels.h"
#include "core/model/kv_pool.h"
#include "core/model/linear.h"
#include "core/model/load_model.h"
#include "core/model/rope.h"
#include "core/model/thread_pool.h"
#include "core/model/weight_reader.h"

namespace reprise {

using Layer = LayerOf<Linear>;

// Rows of one sequence within a pass.
struct PassSequence {
  size_t first_row = 0;
  size_t rows = 0;
  int32_t first_slot = 0;            // where KV of the first row lies; the others follow
  absl::Span<const BlockId> blocks;  // covers every slot up to the last row's
};

struct Pass {
  size_t first_row = 0;         // in the residual stream; of a chunk
  std::vector<TokenId> tokens;  // [rows]
  std::vector<int32_t>
      positions;  // [rows]: what embedding and rotation take; a runner's are the slots
  std::vector<PassSequence> sequences;
  std::vector<size_t> logit_rows;  // rows whose logits are wanted
};

class Transformer {
 public:
  // kNotFound or kInvalidArgument naming the tensor.
  static absl::StatusOr<std::unique_ptr<Transformer>> Build(const LoadedModel& model,
                                                            WeightChoice weights,
                                                            const Kernels& kernels,
                                                            ThreadPool& pool);

  // Writes KV of every row into its block, then logits of `pass.logit_rows`
  // into logits[logit_rows][vocabulary].
  void Forward(const Pass& pass, KvPool& kv, std::vector<float>& logits);

  const ModelConfig& config() const { return config_; }

  // Names of the weights' formats, sorted and joined: "bf16", "q4_1+q8_0".
  std::string weight_formats() const;

  int64_t weight_bytes() const;  // of the packed matrices and position embeddings

 private:
  struct Builder;
  struct InputRows {
    const float* x;  // [rows][stride]
    size_t stride, rows;
    size_t first_row;  // in the residual stream
  };
  Transformer(const ModelConfig& config, const Kernels& kernels, ThreadPool& pool);

  template <typename Visit>
  void ForEachMatrix(const Visit& visit) const;
  void Embed(const Pass& pass);
  const RotaryTable* Rotary(int layer) const;
  void ApplyNorm(const Norm& norm, const float* x, float* y) const;
  float* Residual(size_t row) const { return x_.get() + row * config_.hidden_size; }
  void MultiplyNormed(const Norm& norm, const Linear& linear, const Pass& chunk, float* y);
  template <typename RowTask>
  void MultiplyRows(const Linear& linear, const InputRows& x, const RowTask& before, float* y,
                    bool accumulate);
  template <typename RowTask>
  void AddToResidual(const Linear& linear, const Norm& norm, const InputRows& x,
                     const RowTask& before);
  struct AttentionTask {
    const PassSequence* sequence;
    size_t first_row, rows;  // within the sequence
    size_t first_head, heads;
  };
  using AttentionTasks = std::vector<AttentionTask>;
  AttentionTasks SplitAttention(const Pass& chunk) const;
  void Attention(int layer, const Pass& chunk, const AttentionTasks& tasks, KvPool& kv);
  void RotateHeads(int layer, float* qk, int32_t position) const;
  struct KvSlot {
    BlockId block;
    int32_t index, position;
  };
  void StoreRow(int layer, size_t row, const KvSlot& slot, KvPool& kv);
  void StoreKv(int layer, const Pass& chunk, KvPool& kv);
  void AttendTask(int layer, const AttentionTask& task, const KvPool& kv, float* scratch);
  void Mlp(const Layer& layer, const Pass& chunk);
  void Reserve(const Pass& pass);

  ModelConfig config_;
  const LayerTraits& traits_;
  const Kernels& kernels_;
  ThreadPool& pool_;
  Linear token_embedding_;
  std::optional<Linear> lm_head_;            // none: tied to the embedding
  std::vector<float> position_embedding_;    // learned positions: [context][hidden]
  std::optional<RotaryTable> rotary_;        // rotary positions
  std::optional<RotaryTable> local_rotary_;  // of layers with a window; none: rotary_
  std::vector<Layer> layers_;
  Norm final_norm_;

  // The residual stream of the pass at hand and the other activations of a chunk, [rows][...].
  size_t reserved_rows_ = 0;
  AlignedArray<float> x_, normed_, qkv_, attended_, up_;
  ProductInput input_;
  size_t scratch_floats_ = 0;
  std::vector<AlignedArray<float>> scratch_;  // one per thread
};

}  // namespace reprise
