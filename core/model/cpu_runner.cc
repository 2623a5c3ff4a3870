#include "core/model/cpu_runner.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/kernels.h"
#include "core/model/kv_pool.h"
#include "core/model/thread_pool.h"
#include "core/model/transformer.h"

namespace reprise {
namespace {

constexpr int kMaxThreads = 256;
constexpr int kKernelVersion = 4;  // part of the numerics id; raised when bits change

size_t CountRows(const StepSequence& s) { return s.tokens.size() + s.draft.size(); }

// One row after `tokens` and one after each draft token.
size_t CountLogitRows(const StepSequence& s) {
  return s.sample || s.want_logits ? 1 + s.draft.size() : 0;
}

struct Sampled {
  TokenId token = 0;
  int32_t accepted = 0;
};

class CpuRunner final : public ModelRunner {
 public:
  CpuRunner(const Kernels& kernels, const CpuRunnerOptions& options, int num_threads)
      : kernels_(kernels), options_(options), pool_(num_threads, [] {
          // Lives as long as its worker thread.
          thread_local FlushDenormals flush;
        }) {}

  absl::Status Load(const LoadedModel& model) {
    ASSIGN_OR_RETURN(transformer_, Transformer::Build(model, options_.weights, kernels_, pool_));
    kv_ = std::make_unique<KvPool>(model.config, options_.kv_dtype, options_.kv_pool_bytes);
    if (kv_->num_blocks() < 1) {
      return absl::InvalidArgumentError(absl::StrCat("kv_pool_bytes is ", options_.kv_pool_bytes,
                                                     ", one block takes ", kv_->block_bytes()));
    }
    numerics_id_ =
        absl::StrCat("cpu-", kernels_.instruction_set, "-v", kKernelVersion, "-w",
                     transformer_->weight_formats(), "-kv", DtypeName(options_.kv_dtype));
    return absl::OkStatus();
  }

  absl::StatusOr<StepResult> Step(const StepBatch& batch) override;
  absl::Status ReadBlock(BlockId block, MutableByteView out) const override;
  absl::Status WriteBlock(BlockId block, ByteView in) override;
  absl::Status CopyBlock(BlockId from, BlockId to, int32_t tokens) override;

  int32_t num_blocks() const override { return kv_->num_blocks(); }
  int64_t block_bytes() const override { return kv_->block_bytes(); }
  int64_t weight_bytes() const override { return transformer_->weight_bytes(); }
  int32_t context_length() const override { return config().context_length; }
  int32_t vocabulary_size() const override { return config().vocabulary_size; }
  const std::string& numerics_id() const override { return numerics_id_; }

 private:
  const ModelConfig& config() const { return transformer_->config(); }
  absl::Status CheckBlock(BlockId block, size_t bytes) const;
  absl::Status CheckTokens(absl::Span<const TokenId> tokens) const;
  absl::Status CheckSequence(const StepSequence& sequence) const;
  Pass MakePass(const StepBatch& batch);
  Sampled Sample(const StepSequence& sequence, size_t first_row) const;
  void ClearRejected(const StepSequence& sequence, int32_t accepted);
  absl::Span<const float> LogitsOf(size_t row) const {
    return absl::MakeConstSpan(logits_).subspan(row * vocabulary_size(), vocabulary_size());
  }

  const Kernels& kernels_;
  CpuRunnerOptions options_;
  ThreadPool pool_;
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<KvPool> kv_;
  std::string numerics_id_;
  std::vector<float> logits_;  // of the last step
};

absl::Status CpuRunner::CheckBlock(BlockId block, size_t bytes) const {
  if (block < 0 || block >= num_blocks()) {
    return absl::InvalidArgumentError(
        absl::StrCat("block ", block, " is not in [0, ", num_blocks(), ")"));
  }
  if (bytes != static_cast<size_t>(block_bytes())) {
    return absl::InvalidArgumentError(
        absl::StrCat("a block has ", block_bytes(), " bytes, not ", bytes));
  }
  return absl::OkStatus();
}

absl::Status CpuRunner::ReadBlock(BlockId block, MutableByteView out) const {
  RETURN_IF_ERROR(CheckBlock(block, out.size()));
  const ByteView bytes = kv_->Block(block);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return absl::OkStatus();
}

absl::Status CpuRunner::WriteBlock(BlockId block, ByteView in) {
  RETURN_IF_ERROR(CheckBlock(block, in.size()));
  std::memcpy(kv_->Block(block).data(), in.data(), in.size());
  return absl::OkStatus();
}

absl::Status CpuRunner::CopyBlock(BlockId from, BlockId to, int32_t tokens) {
  RETURN_IF_ERROR(CheckBlock(from, kv_->block_bytes()));
  RETURN_IF_ERROR(CheckBlock(to, kv_->block_bytes()));
  if (tokens < 0 || tokens > kBlockTokens) {
    return absl::InvalidArgumentError(absl::StrCat("cannot copy ", tokens, " tokens of block ",
                                                   from, ", expected 0 to ", kBlockTokens));
  }
  kv_->CopySlots(from, to, tokens);
  return absl::OkStatus();
}

absl::Status CpuRunner::CheckTokens(absl::Span<const TokenId> tokens) const {
  for (const TokenId token : tokens) {
    if (token >= 0 && token < vocabulary_size()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("token ", token, " is not in [0, ", vocabulary_size(), ")"));
  }
  return absl::OkStatus();
}

absl::Status CpuRunner::CheckSequence(const StepSequence& sequence) const {
  const int64_t end = int64_t{sequence.start_position} + CountRows(sequence);
  if (sequence.tokens.empty() || sequence.start_position < 0 || end > context_length()) {
    return absl::InvalidArgumentError(absl::StrCat("tokens at [", sequence.start_position, ", ",
                                                   end, ") do not fit the context of ",
                                                   context_length()));
  }
  if (!sequence.draft.empty() && !sequence.sample) {
    return absl::InvalidArgumentError(absl::StrCat("a draft of ", sequence.draft.size(),
                                                   " tokens for a sequence that does not sample"));
  }
  RETURN_IF_ERROR(CheckTokens(sequence.tokens));
  RETURN_IF_ERROR(CheckTokens(sequence.draft));
  const size_t blocks = (end + kBlockTokens - 1) / kBlockTokens;
  if (sequence.block_table.size() < blocks) {
    return absl::InvalidArgumentError(absl::StrCat("the block table has ",
                                                   sequence.block_table.size(), " blocks, ", end,
                                                   " positions need ", blocks));
  }
  for (const BlockId block : sequence.block_table) {
    RETURN_IF_ERROR(CheckBlock(block, block_bytes()));
  }
  return absl::OkStatus();
}

Pass CpuRunner::MakePass(const StepBatch& batch) {
  Pass pass;
  for (const StepSequence& sequence : batch.sequences) {
    const size_t rows = CountRows(sequence);
    pass.sequences.push_back(
        {pass.tokens.size(), rows, sequence.start_position, sequence.block_table});
    pass.tokens.insert(pass.tokens.end(), sequence.tokens.begin(), sequence.tokens.end());
    pass.tokens.insert(pass.tokens.end(), sequence.draft.begin(), sequence.draft.end());
    for (size_t i = 0; i < rows; ++i) {
      const auto position = sequence.start_position + static_cast<int32_t>(i);
      pass.positions.push_back(position);
      // What a block held before must not show in its record, unless all of it is written now.
      if (position % kBlockTokens == 0 && i + kBlockTokens > rows) {
        const MutableByteView bytes = kv_->Block(sequence.block_table[position / kBlockTokens]);
        std::memset(bytes.data(), 0, bytes.size());
      }
    }
    for (size_t left = CountLogitRows(sequence); left > 0; --left) {
      pass.logit_rows.push_back(pass.tokens.size() - left);
    }
  }
  return pass;
}

// Samples after the last token and then after each draft token for as long as the draft
// says what was sampled; `first_row` of the logits is the last token's. Each call gets what
// a step of its own would give it.
Sampled CpuRunner::Sample(const StepSequence& sequence, size_t first_row) const {
  const auto generated = sequence.history.generated;
  std::vector<TokenId> ids(generated.begin(), generated.end());
  ids.insert(ids.end(), sequence.draft.begin(), sequence.draft.end());
  const int64_t last = sequence.start_position + static_cast<int64_t>(sequence.tokens.size()) - 1;
  for (int32_t accepted = 0;; ++accepted) {
    const SamplingHistory history{sequence.history.prompt,
                                  absl::MakeConstSpan(ids).subspan(0, generated.size() + accepted)};
    const TokenId token = SampleToken(LogitsOf(first_row + accepted), sequence.sampling, history,
                                      sequence.banned, last + accepted);
    const bool drafted = static_cast<size_t>(accepted) < sequence.draft.size();
    if (!drafted || token != sequence.draft[accepted]) return {token, accepted};
  }
}

void CpuRunner::ClearRejected(const StepSequence& sequence, int32_t accepted) {
  const auto end = sequence.start_position + static_cast<int32_t>(CountRows(sequence));
  int32_t position =
      sequence.start_position + static_cast<int32_t>(sequence.tokens.size()) + accepted;
  while (position < end) {
    const BlockId block = sequence.block_table[position / kBlockTokens];
    kv_->CopySlots(block, block, position % kBlockTokens);
    position += kBlockTokens - position % kBlockTokens;
  }
}

absl::StatusOr<StepResult> CpuRunner::Step(const StepBatch& batch) {
  if (batch.sequences.empty()) return absl::InvalidArgumentError("the batch has no sequence");
  for (const StepSequence& sequence : batch.sequences) RETURN_IF_ERROR(CheckSequence(sequence));
  const FlushDenormals flush;
  try {
    transformer_->Forward(MakePass(batch), *kv_, logits_);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory for the activations of a step");
  }
  StepResult result;
  size_t row = 0;
  for (const StepSequence& sequence : batch.sequences) {
    const Sampled sampled = sequence.sample ? Sample(sequence, row) : Sampled{};
    result.tokens.push_back(sampled.token);
    result.accepted.push_back(sampled.accepted);
    result.logits.emplace_back();
    if (sequence.want_logits) {
      const auto logits = LogitsOf(row + sampled.accepted);
      result.logits.back().assign(logits.begin(), logits.end());
    }
    ClearRejected(sequence, sampled.accepted);
    row += CountLogitRows(sequence);
  }
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelRunner>> CreateCpuRunnerWith(const Kernels& kernels,
                                                                 const LoadedModel& model,
                                                                 const CpuRunnerOptions& options) {
  if (options.num_threads < 0 || options.num_threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_threads is ", options.num_threads, ", expected 0 to ", kMaxThreads));
  }
  const int hardware = std::max(1u, std::thread::hardware_concurrency());
  const int threads =
      options.num_threads > 0 ? options.num_threads : std::min(hardware, kMaxThreads);
  try {
    auto runner = std::make_unique<CpuRunner>(kernels, options, threads);
    RETURN_IF_ERROR(runner->Load(model));
    return runner;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory for the weights or the KV pool");
  }
}

absl::StatusOr<std::unique_ptr<ModelRunner>> CreateCpuRunner(const LoadedModel& model,
                                                             const CpuRunnerOptions& options) {
  const Kernels* kernels = SelectKernels(options.instruction_set.c_str());
  if (kernels == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("instruction_set \"", options.instruction_set,
                                                   "\" is unknown or not on this CPU"));
  }
  return CreateCpuRunnerWith(*kernels, model, options);
}

}  // namespace reprise
