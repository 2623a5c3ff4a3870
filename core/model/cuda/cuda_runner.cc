#include "core/model/cuda/cuda_runner.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/model/cuda/cuda_transformer.h"
#include "core/model/cuda/graph_cache.h"
#include "core/model/step_batch.h"

namespace reprise {
namespace cuda {
namespace {

constexpr int kKernelVersion = 2;  // part of the numerics id; raised when bits change
constexpr int kMinArchitecture = 75;
constexpr int kBfloat16Architecture = 80;
constexpr int32_t kMaxRows = 1024;  // of a pass
constexpr int32_t kMaxLogitRows = 128;
constexpr int32_t kMinTableWords = 1 << 16;
constexpr int kHeadDims[] = {32, 64, 96, 128, 256};  // padded ones that attention is built for

bool IsGreedy(const StepSequence& s) {
  const SamplingOptions& o = s.sampling;
  return o.temperature <= 0.0f && o.repetition_penalty == 1.0f && o.presence_penalty == 0.0f &&
         o.frequency_penalty == 0.0f && s.banned.size() <= kMaxBanned;
}

// Whether the host needs the logits of a sequence.
bool NeedsLogits(const StepSequence& s) { return s.want_logits || (s.sample && !IsGreedy(s)); }

// What the passes of a step gave, by logit row in the order of the batch.
struct Outcome {
  std::vector<bool> wanted;  // rows whose logits the host needs
  std::vector<TokenId> likeliest;
  std::vector<std::vector<float>> logits;  // empty where not wanted
};

class Stream {
 public:
  ~Stream() {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }
  cudaError_t Create() { return cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking); }
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class CudaRunner final : public ModelRunner {
 public:
  CudaRunner(const Kernels& kernels, const CudaRunnerOptions& options)
      : kernels_(kernels), options_(options) {}

  absl::Status Load(const LoadedModel& model);

  absl::StatusOr<StepResult> Step(const StepBatch& batch) override;
  absl::Status ReadBlock(BlockId block, MutableByteView out) const override;
  absl::Status WriteBlock(BlockId block, ByteView in) override;
  absl::Status CopyBlock(BlockId from, BlockId to, int32_t tokens) override;

  int32_t num_blocks() const override { return kv_.num_blocks(); }
  int64_t block_bytes() const override { return kv_.block_bytes(); }
  int64_t weight_bytes() const override { return transformer_->weight_bytes(); }
  int32_t context_length() const override { return transformer_->config().context_length; }
  int32_t vocabulary_size() const override { return transformer_->config().vocabulary_size; }
  const std::string& numerics_id() const override { return numerics_id_; }

 private:
  StepLimits limits() const {
    return {context_length(), vocabulary_size(), num_blocks(), block_bytes()};
  }
  absl::Status NameNumerics();
  absl::Status RunPass(const PlannedPass& pass, Outcome& outcome);
  absl::Status RunAll(const StepBatch& batch, Outcome& outcome);
  cudaError_t Enqueue(const PlannedPass& pass, const Outcome& outcome);
  absl::Status Finish(const StepBatch& batch, const Outcome& outcome, StepResult& result);
  absl::Status Ready() const;
  absl::Status Failed(absl::Status status) const;

  const Kernels& kernels_;
  CudaRunnerOptions options_;
  mutable absl::Status failure_;  // of the device, which is not used again
  Stream stream_;
  std::unique_ptr<CudaTransformer> transformer_;
  DeviceKvPool kv_;
  PassLimits pass_limits_{};
  PinnedArray<int32_t> words_;
  DeviceArray<int32_t> device_words_;
  PinnedArray<int32_t> likeliest_;
  PinnedArray<float> logits_;
  GraphCache graphs_;
  std::string numerics_id_;
};

HalfType ToHalfType(Dtype dtype) {
  return dtype == Dtype::kBfloat16 ? HalfType::kBf16 : HalfType::kFp16;
}

// kInvalidArgument naming what a device of that architecture cannot do.
absl::Status CheckSupported(const ModelConfig& config, const CudaRunnerOptions& options,
                            int architecture) {
  if (architecture < kMinArchitecture) {
    return absl::FailedPreconditionError(absl::StrCat("device ", options.device, " is sm_",
                                                      architecture, ", sm_", kMinArchitecture,
                                                      " is the oldest that is supported"));
  }
  for (const auto& [name, dtype] :
       {std::pair{"weight_dtype", options.weight_dtype}, {"kv_dtype", options.kv_dtype}}) {
    if (dtype == Dtype::kFloat32) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " is fp32, a CUDA device takes fp16 or bf16"));
    }
    if (dtype == Dtype::kBfloat16 && architecture < kBfloat16Architecture) {
      return absl::InvalidArgumentError(absl::StrCat(name, " is bf16, which a device of sm_",
                                                     architecture, " does not have; fp16 is"));
    }
  }
  const int padded = PaddedDepth(config.head_dim);
  if (std::find(std::begin(kHeadDims), std::end(kHeadDims), padded) == std::end(kHeadDims)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "head_dim is ", config.head_dim, ", a CUDA device takes up to 128, and 225 to 256"));
  }
  return absl::OkStatus();
}

absl::Status CudaRunner::NameNumerics() {
  cudaDeviceProp properties;
  RETURN_IF_ERROR(ToStatus(cudaGetDeviceProperties(&properties, options_.device), "properties"));
  int code = 0;
  RETURN_IF_ERROR(ToStatus(GetCodeArchitecture(&code), "the machine code of the kernels"));
  numerics_id_ = absl::StrCat("cuda-sm", properties.major, properties.minor, "-code", code, "-v",
                              kKernelVersion, "-w", DtypeName(options_.weight_dtype), "-kv",
                              DtypeName(options_.kv_dtype));
  return absl::OkStatus();
}

absl::Status CudaRunner::Load(const LoadedModel& model) {
  const ModelConfig& config = model.config;
  const std::string device = absl::StrCat("opening device ", options_.device);
  if (const absl::Status opened = ToStatus(cudaSetDevice(options_.device), device); !opened.ok()) {
    return absl::FailedPreconditionError(opened.message());
  }
  int major = 0, minor = 0;
  RETURN_IF_ERROR(ToStatus(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, options_.device), device));
  RETURN_IF_ERROR(ToStatus(
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, options_.device), device));
  RETURN_IF_ERROR(CheckSupported(config, options_, 10 * major + minor));
  RETURN_IF_ERROR(ToStatus(stream_.Create(), "making a stream"));
  ASSIGN_OR_RETURN(
      kv_, DeviceKvPool::Make(config, ToHalfType(options_.kv_dtype), options_.kv_pool_bytes));
  const int64_t positions =
      std::min<int64_t>(config.context_length, int64_t{kv_.num_blocks()} * kBlockTokens);
  const TransformerLimits limits{kMaxRows, kMaxLogitRows, static_cast<int32_t>(positions)};
  ASSIGN_OR_RETURN(transformer_, CudaTransformer::Build(model, ToHalfType(options_.weight_dtype),
                                                        limits, kernels_));
  pass_limits_ = {kMaxRows, kMaxLogitRows,
                  std::max(kMinTableWords, config.context_length / kBlockTokens + 1),
                  config.num_heads / config.num_kv_heads,
                  PaddedDepth(config.head_dim) <= kMaxWideDim && config.head_dim % 2 == 0};
  const int64_t words = MaxPassWords(pass_limits_);
  ASSIGN_OR_RETURN(words_, PinnedArray<int32_t>::Make(words, "a pass"));
  ASSIGN_OR_RETURN(device_words_, DeviceArray<int32_t>::Make(words, "a pass"));
  ASSIGN_OR_RETURN(likeliest_, PinnedArray<int32_t>::Make(kMaxLogitRows, "tokens"));
  ASSIGN_OR_RETURN(
      logits_, PinnedArray<float>::Make(int64_t{kMaxLogitRows} * config.vocabulary_size, "logits"));
  RETURN_IF_ERROR(ToStatus(cudaDeviceSynchronize(), "loading the model"));
  return NameNumerics();
}

// Notes a device fault; what follows must not read memory that it may have spoiled.
absl::Status CudaRunner::Failed(absl::Status status) const {
  if (absl::IsInternal(status)) failure_ = status;
  return status;
}

// The device is a setting of each thread, and the engine's is not the one that loaded.
absl::Status CudaRunner::Ready() const {
  RETURN_IF_ERROR(failure_);
  return ToStatus(cudaSetDevice(options_.device), "choosing the device");
}

absl::Status CudaRunner::ReadBlock(BlockId block, MutableByteView out) const {
  RETURN_IF_ERROR(Ready());
  RETURN_IF_ERROR(CheckBlock(block, out.size(), limits()));
  return Failed(kv_.Read(block, out, stream_.get()));
}

absl::Status CudaRunner::WriteBlock(BlockId block, ByteView in) {
  RETURN_IF_ERROR(Ready());
  RETURN_IF_ERROR(CheckBlock(block, in.size(), limits()));
  return Failed(kv_.Write(block, in, stream_.get()));
}

absl::Status CudaRunner::CopyBlock(BlockId from, BlockId to, int32_t tokens) {
  RETURN_IF_ERROR(Ready());
  RETURN_IF_ERROR(CheckCopy(from, to, tokens, limits()));
  return Failed(ToStatus(kv_.CopySlots(from, to, tokens, stream_.get()), "copying a KV block"));
}

cudaError_t CudaRunner::Enqueue(const PlannedPass& pass, const Outcome& outcome) {
  const cudaStream_t stream = stream_.get();
  std::copy(pass.words.begin(), pass.words.end(), words_.data());
  RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(device_words_.data(), words_.data(),
                                       pass.words.size() * sizeof(int32_t), cudaMemcpyHostToDevice,
                                       stream));
  const auto launch = [&] {
    return transformer_->Forward(pass.shape, device_words_.data(), kv_, stream);
  };
  RETURN_IF_CUDA_ERROR(options_.capture_graphs ? graphs_.Run(pass.shape, stream, launch)
                                               : launch());
  if (pass.logit_rows == 0) return cudaSuccess;
  RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(likeliest_.data(), transformer_->likeliest(),
                                       pass.logit_rows * sizeof(int32_t), cudaMemcpyDeviceToHost,
                                       stream));
  const size_t first = outcome.likeliest.size(), width = vocabulary_size();
  for (int32_t row = 0; row < pass.logit_rows; ++row) {
    if (!outcome.wanted[first + row]) continue;
    RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(logits_.data() + row * width,
                                         transformer_->logits() + row * width,
                                         width * sizeof(float), cudaMemcpyDeviceToHost, stream));
  }
  return cudaSuccess;
}

absl::Status CudaRunner::RunPass(const PlannedPass& pass, Outcome& outcome) {
  RETURN_IF_ERROR(ToStatus(Enqueue(pass, outcome), "starting a pass"));
  RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(stream_.get()), "running a pass"));
  const size_t first = outcome.likeliest.size(), width = vocabulary_size();
  for (int32_t row = 0; row < pass.logit_rows; ++row) {
    outcome.likeliest.push_back(likeliest_.data()[row]);
    outcome.logits.emplace_back();
    if (!outcome.wanted[first + row]) continue;
    const float* logits = logits_.data() + row * width;
    outcome.logits.back().assign(logits, logits + width);
  }
  return absl::OkStatus();
}

absl::Status CudaRunner::RunAll(const StepBatch& batch, Outcome& outcome) {
  for (const StepSequence& s : batch.sequences) {
    outcome.wanted.insert(outcome.wanted.end(), CountLogitRows(s), NeedsLogits(s));
  }
  for (const PlannedPass& pass : PlanPasses(batch, pass_limits_)) {
    RETURN_IF_ERROR(RunPass(pass, outcome));
  }
  return absl::OkStatus();
}

// Samples, and clears what rejected drafts left.
absl::Status CudaRunner::Finish(const StepBatch& batch, const Outcome& outcome,
                                StepResult& result) {
  size_t first = 0;
  cudaError_t cleared = cudaSuccess;
  for (const StepSequence& s : batch.sequences) {
    Sampled sampled;
    if (s.sample) {
      sampled = SampleAfterDraft(
          s, [&](int32_t accepted, const SamplingHistory& history, int64_t position) -> TokenId {
            const size_t row = first + accepted;
            if (IsGreedy(s)) return outcome.likeliest[row];
            return SampleToken(outcome.logits[row], s.sampling, history, s.banned, position);
          });
    }
    result.tokens.push_back(sampled.token);
    result.accepted.push_back(sampled.accepted);
    result.logits.emplace_back();
    if (s.want_logits) result.logits.back() = outcome.logits[first + sampled.accepted];
    ForEachRejected(s, sampled.accepted, [&](BlockId block, int32_t tokens) {
      const cudaError_t error = kv_.CopySlots(block, block, tokens, stream_.get());
      if (cleared == cudaSuccess) cleared = error;
    });
    first += CountLogitRows(s);
  }
  return ToStatus(cleared, "clearing rejected slots");
}

absl::StatusOr<StepResult> CudaRunner::Step(const StepBatch& batch) {
  RETURN_IF_ERROR(Ready());
  RETURN_IF_ERROR(CheckStep(batch, limits()));
  Outcome outcome;
  StepResult result;
  RETURN_IF_ERROR(Failed(RunAll(batch, outcome)));
  RETURN_IF_ERROR(Failed(Finish(batch, outcome, result)));
  return result;
}

}  // namespace
}  // namespace cuda

absl::StatusOr<std::unique_ptr<ModelRunner>> CreateCudaRunnerWith(
    const cuda::Kernels& kernels, const LoadedModel& model, const CudaRunnerOptions& options) {
  auto runner = std::make_unique<cuda::CudaRunner>(kernels, options);
  RETURN_IF_ERROR(runner->Load(model));
  return runner;
}

absl::StatusOr<std::unique_ptr<ModelRunner>> CreateCudaRunner(const LoadedModel& model,
                                                              const CudaRunnerOptions& options) {
  static const cuda::Kernels kernels;
  return CreateCudaRunnerWith(kernels, model, options);
}

}  // namespace reprise
