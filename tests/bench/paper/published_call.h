// What the published call of arXiv 2512.11851 computes: generate(input_ids=suffix,
// past_key_values=prefix, attention_mask of the suffix's length) of Transformers 4.45.2 with
// GPT-2, which drops tokens of the suffix and numbers positions anew, without a word.
//
// A model runner tells each token that its position is its place in the cache, so this is no
// request of it: the layers beneath are given both.
//
// Source     prepare_inputs_for_generation of modeling_gpt2.py in Transformers 4.45.2.
// Threading  one thread.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/model/load_model.h"
#include "core/model/transformer.h"

namespace reprise::bench {

// Tokens that a model computes: the first is told `first_position`, its KV lies behind what the
// cache holds, and so on.
struct Feed {
  std::vector<TokenId> tokens;
  int32_t first_position = 0;
};

// Of a suffix behind `cached` tokens. Up to `cached` of them: only the last one, told that it is
// the suffix's last position. More: without the first `cached`, at their places in the prompt's
// cache.
Feed PublishedFeed(absl::Span<const TokenId> suffix, int32_t cached);

// The whole suffix, where it belongs.
Feed CorrectFeed(absl::Span<const TokenId> suffix, int32_t cached);

struct GreedyReply {
  std::vector<TokenId> tokens;
  bool ended = false;  // by `end_token`, which is not among them
  double first_token_ms = 0, total_ms = 0;
};

struct GreedyOptions {
  int32_t max_tokens = 100;
  TokenId end_token = -1;   // none: -1
  bool ignore_end = false;  // it is never chosen
};

// Decodes one sequence greedily, its tokens at positions of the caller's choice.
class PositionedModel {
 public:
  // kInvalidArgument or kNotFound, as the runner's.
  static absl::StatusOr<std::unique_ptr<PositionedModel>> Create(const LoadedModel& model,
                                                                 int threads, int32_t max_slots);

  // KV of all slots from `slots` on is gone.
  void Truncate(int32_t slots);

  // Computes KV of `tokens` at slots and positions from 0 on.
  void Prefill(absl::Span<const TokenId> tokens);

  // Continues behind `slots` slots. What is fed and produced is within max_slots.
  GreedyReply Generate(const Feed& feed, int32_t slots, const GreedyOptions& options);

 private:
  PositionedModel(const LoadedModel& model, int threads, int32_t max_slots);
  absl::Span<const float> Run(absl::Span<const TokenId> tokens, int32_t slot, int32_t position);

  ThreadPool pool_;
  KvPool kv_;
  std::vector<BlockId> blocks_;
  std::unique_ptr<Transformer> transformer_;
  std::vector<float> logits_;
};

}  // namespace reprise::bench
