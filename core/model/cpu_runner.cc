#include "core/model/cpu_runner.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/kernels.h"
#include "core/model/kv_pool.h"
#include "core/model/step_batch.h"
#include "core/model/thread_pool.h"
#include "core/model/transformer.h"

namespace reprise {
namespace {

constexpr int kMaxThreads = 256;
constexpr int kKernelVersion = 4;  // part of the numerics id; raised when bits change

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
  StepLimits limits() const {
    return {context_length(), vocabulary_size(), num_blocks(), block_bytes()};
  }
  Pass MakePass(const StepBatch& batch);
  Sampled Sample(const StepSequence& sequence, size_t first_row) const;
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

absl::Status CpuRunner::ReadBlock(BlockId block, MutableByteView out) const {
  RETURN_IF_ERROR(CheckBlock(block, out.size(), limits()));
  const ByteView bytes = kv_->Block(block);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return absl::OkStatus();
}

absl::Status CpuRunner::WriteBlock(BlockId block, ByteView in) {
  RETURN_IF_ERROR(CheckBlock(block, in.size(), limits()));
  std::memcpy(kv_->Block(block).data(), in.data(), in.size());
  return absl::OkStatus();
}

absl::Status CpuRunner::CopyBlock(BlockId from, BlockId to, int32_t tokens) {
  RETURN_IF_ERROR(CheckCopy(from, to, tokens, limits()));
  kv_->CopySlots(from, to, tokens);
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

// `first_row` of the logits is the last token's.
Sampled CpuRunner::Sample(const StepSequence& sequence, size_t first_row) const {
  return SampleAfterDraft(sequence,
                          [&](int32_t accepted, const SamplingHistory& history, int64_t position) {
                            return SampleToken(LogitsOf(first_row + accepted), sequence.sampling,
                                               history, sequence.banned, position);
                          });
}

absl::StatusOr<StepResult> CpuRunner::Step(const StepBatch& batch) {
  RETURN_IF_ERROR(CheckStep(batch, limits()));
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
    ForEachRejected(sequence, sampled.accepted,
                    [&](BlockId block, int32_t tokens) { kv_->CopySlots(block, block, tokens); });
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
