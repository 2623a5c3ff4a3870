// ModelRunner advances sequences by one step on one device.
//
// The engine hands over a StepBatch and gets one sampled token for each
// sequence that asked. No tensor type crosses this header, so the engine builds
// and tests without a model. KV that persists crosses as bytes, one block at a
// time, in a layout of the runner's own (CpuRunner's: core/model/kv_pool.h) that
// numerics_id() covers; slots past the block's token count are zero.
//
// Real: core/model/cpu_runner.h. Fake: tests/fakes/scripted_runner.h.
// Units      *_bytes is memory of the runner's device.
// Threading  not thread-safe; the engine thread owns the runner.
// Exactness  KV and logits of a position are a pure function of the weights,
//            the ids up to it and numerics_id(): never of batch mates, chunk
//            borders or thread count.
// Source     block tables: Kwon et al. 2023, arXiv 2309.06180, section 4. Verification of
//            drafts: Leviathan et al. 2023, arXiv 2211.17192, with the sampler's own
//            random number of each position in place of rejection sampling, so that
//            the reply is the one of plain decoding token by token.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/bytes.h"
#include "core/base/ids.h"
#include "core/model/sampling.h"

namespace reprise {

// The new tokens of one sequence in a step. Views stay valid for the call.
struct StepSequence {
  absl::Span<const TokenId> tokens;       // >= 1 new tokens, in order
  int32_t start_position = 0;             // position of tokens[0]
  absl::Span<const TokenId> draft;        // guesses that follow `tokens`; needs `sample`
  absl::Span<const BlockId> block_table;  // covers [0, start_position + tokens + draft)

  bool sample = false;       // produce the token after the last one
  bool want_logits = false;  // also return the logits of the last token that stays
  SamplingOptions sampling;
  SamplingHistory history;
  absl::Span<const TokenId> banned;
};

struct StepBatch {
  std::vector<StepSequence> sequences;
};

// What was sampled is draft[0, accepted), then `tokens`: the same ids as a step for each of
// them would give.
struct StepResult {
  std::vector<TokenId> tokens;             // [num_sequences]; meaningful where `sample`
  std::vector<int32_t> accepted;           // [num_sequences] draft tokens that were sampled too
  std::vector<std::vector<float>> logits;  // [num_sequences][vocabulary] where asked, else empty
};

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  // Runs one step. On OK, the KV of every input token and accepted draft token is in its
  // block; the slots of the other draft tokens are zero, as if there had been no draft.
  //
  // Errors
  //   kInvalidArgument    a shape, position, token or BlockId is out of range, or
  //                       there is a draft without `sample`; nothing ran.
  //   kResourceExhausted  out of device memory; the KV of this batch's new
  //                       tokens is undefined.
  //   kInternal           device fault; discard the runner.
  virtual absl::StatusOr<StepResult> Step(const StepBatch& batch) = 0;

  // Copies a block's record out of or into the device; `out`/`in` are exactly
  // block_bytes() long. kInvalidArgument: unknown block or wrong size.
  virtual absl::Status ReadBlock(BlockId block, MutableByteView out) const = 0;
  virtual absl::Status WriteBlock(BlockId block, ByteView in) = 0;

  // Device-side copy of the first `tokens` slots of a block; the others become
  // zero (copy on write). `to` may be `from`: only its other slots change.
  // kInvalidArgument: unknown block or a count out of range.
  virtual absl::Status CopyBlock(BlockId from, BlockId to, int32_t tokens) = 0;

  virtual int32_t num_blocks() const = 0;
  virtual int64_t block_bytes() const = 0;
  virtual int64_t weight_bytes() const = 0;    // of the model's matrices in memory
  virtual int32_t context_length() const = 0;  // positions the model has
  virtual int32_t vocabulary_size() const = 0;

  // Names everything besides weights and ids that decides the bits: kernel
  // version, instruction set, weight and KV dtype.
  virtual const std::string& numerics_id() const = 0;
};

}  // namespace reprise
