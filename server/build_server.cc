#include "server/build_server.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/cpu_runner.h"
#include "core/model/sentence_encoder.h"
#include "core/similarity/faiss_index.h"
#include "core/store/reopening_store.h"
#include "core/store/rocksdb_store.h"
#include "core/store/segment_codec.h"
#include "core/telemetry/log.h"
#include "core/text/load_text.h"
#include "core/text/wordpiece_tokenizer.h"
#include "server/build_callers.h"
#include "server/build_runner.h"
#include "server/converters.h"
#include "server/grpc_server.h"
#include "server/http_server.h"
#include "server/security_config.h"
#include "server/step_lines.h"

namespace reprise::server {
namespace {

using config::v1::ServerConfig;

constexpr int kIdentityVersion = 2;  // of the fields below

RocksDbOptions ToStoreOptions(const config::v1::StoreConfig& config) {
  RocksDbOptions options;
  options.path = config.path();
  options.write_bytes_per_second = config.write_bytes_per_second();
  options.blob_file_bytes = config.write_buffer_bytes();
  options.settle_when_listed = true;
  options.max_disk_bytes = std::max<int64_t>(config.max_bytes(), 1);  // 0 is none at all
  return options;
}

// A prompt's ids and vector, in the store and in the index beside it, which has two for a moment.
constexpr int64_t kPromptBytes = 8192;

EngineOptions ToEngineOptions(const ServerConfig& config) {
  EngineOptions options;
  options.max_queued_requests = config.engine().max_queued_requests();
  options.max_running_sequences = config.engine().max_running_sequences();
  options.max_batch_tokens = config.engine().max_batch_tokens();
  options.max_step_draft_tokens = config.engine().max_step_draft_tokens();
  options.max_decode_slowdown_percent = config.engine().max_decode_slowdown_percent();
  options.retrieval_mode =
      static_cast<RetrievalMode>(std::max(0, int{config.cache().retrieval_mode()} - 1));
  options.semantic_top_k = config.cache().similarity().top_k();
  options.require_full_prefix = config.cache().similarity().require_full_prefix();
  options.max_disk_bytes = config.cache().store().max_bytes();
  options.eviction.policy = config.cache().eviction().policy() == config::v1::EVICTION_POLICY_LRU
                                ? EvictionPolicy::kLru
                                : EvictionPolicy::kCostAware;
  options.eviction.half_life_seconds =
      std::max(1.0, absl::ToDoubleSeconds(ToDuration(config.cache().eviction().half_life())));
  options.shadow_verify_percent = config.cache().shadow_verify_percent();
  options.write_batch_bytes = WriteBufferBytes(ToStoreOptions(config.cache().store()));
  options.store_codec =
      static_cast<PayloadCodec>(std::max(0, int{config.cache().store().codec()} - 1));
  options.kv_value_bytes = config.model().kv_dtype() == config::v1::DTYPE_FP32 ? 4 : 2;
  options.write_selectively = config.cache().store().write_selectively();
  // An eighth of the disk at most.
  options.max_prompts =
      std::clamp<int64_t>(options.max_disk_bytes / 8 / kPromptBytes, 1, options.max_prompts);
  options.flush_after_idle = ToDuration(config.cache().store().flush_after_idle());
  options.load_budget = ToDuration(config.cache().store().load_budget());
  options.retry_pause = ToDuration(config.cache().store().retry_pause());
  return options;
}

// Names everything that decides what a cached KV value means, whose it is included:
// `owner` is "tenant" or "pool".
Digest ComputeIdentity(const LoadedModel& model, const Tokenizer& tokenizer,
                       const std::string& numerics_id,
                       const std::pair<std::string, std::string>& owner) {
  DigestBuilder builder;
  builder.AddInt("version", kIdentityVersion).AddInt("segment_format", kSegmentFormatVersion);
  builder.Add("weights", model.weights_digest);
  builder.Add("tokenizer", tokenizer.digest());
  model.config.AddTo(builder);
  return builder.Add("numerics", numerics_id).Add(owner.first, owner.second).Finish();
}

int ComputeThreads(const ServerConfig& config) {
  const int asked = config.model().thread_count();
  return asked > 0 ? asked : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// Says which setting an error is about.
absl::Status AtField(absl::string_view field, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(field, ": ", status.message()));
}

class BuiltServer final : public RunningServer {
 public:
  absl::Status Build(const ServerConfig& config);
  void Drain() override;

 private:
  absl::StatusOr<LoadedModel> LoadAll(const ServerConfig& config, EngineParts& parts);
  absl::Status Probe(const ServerConfig& config, ModelRunner& runner, EngineOptions& options);
  absl::Status OpenStore(const config::v1::CacheConfig& cache, EngineParts& parts);
  absl::Status OpenSimilarity(const ServerConfig& config, EngineParts& parts,
                              EngineOptions& options);
  void MatchVectors(EngineParts& parts);
  absl::Status OpenStepTrace(const ServerConfig& config, EngineParts& parts);
  absl::Status ListenHttp(const ServerConfig& config);
  absl::Status Listen(const ServerConfig& config);

  SystemClock clock_;
  Metrics metrics_;
  std::unique_ptr<Logger> logger_;
  std::unique_ptr<Logger> step_log_;  // null: steps are not traced
  LoadedText text_;
  ModelFacts facts_;
  AuthPolicy auth_;
  ResidentMemory memory_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<GenerationHandlers> handlers_;
  std::unique_ptr<AdminHandlers> admin_;
  std::unique_ptr<GrpcServer> grpc_;
  std::unique_ptr<HttpServer> http_;
  std::atomic<bool> ready_{false};
  absl::Duration drain_timeout_;
};

absl::StatusOr<LoadedModel> BuiltServer::LoadAll(const ServerConfig& config, EngineParts& parts) {
  auto loaded = LoadModel(config.model().path());
  RETURN_IF_ERROR(AtField("model.path", loaded.status()));
  LoadedModel model = *std::move(loaded);
  ASSIGN_OR_RETURN(text_, LoadText(config.model().path()));
  ASSIGN_OR_RETURN(BuiltRunner built, BuildRunner(config, model));
  parts.runner = std::move(built.runner);
  memory_.weight_bytes = parts.runner->weight_bytes();
  // Rounded KV means something else.
  const bool rounds = config.cache().store().codec() == config::v1::STORE_CODEC_INT8;
  const std::string numerics = parts.runner->numerics_id() + (rounds ? "+int8-store" : "");
  parts.namespaces = ListNamespaces(config, [&](const auto& owner) {
    return ComputeIdentity(model, *text_.tokenizer, numerics, owner);
  });
  parts.identity = parts.namespaces[0].identity;
  parts.meaning = ComputeIdentity(model, *text_.tokenizer, numerics, {"", ""});
  facts_ = {model.config.name,
            ArchitectureName(model.config.architecture),
            built.weight_dtype,
            built.kv_dtype,
            parts.runner->numerics_id(),
            ToHex(parts.identity),
            model.config.context_length,
            std::min(model.config.vocabulary_size, text_.tokenizer->vocabulary_size()),
            config.generation().default_max_output_tokens(),
            text_.tokenizer.get(),
            text_.chat.get(),
            config.generation().speculation().mode() == config::v1::SPECULATION_MODE_PROMPT_LOOKUP,
            config.generation().speculation().max_draft_tokens(),
            static_cast<CachePolicy>(std::max(0, int{config.cache().policy()} - 1)),
            config.cache().minimum_reuse_token_count()};
  for (const NamespaceSpec& spec : parts.namespaces) {
    for (const std::string& tenant : spec.tenants) {
      facts_.tenant_identities[tenant] = ToHex(spec.identity);
    }
  }
  metrics_.SetTenants(TenantNames(config));
  RETURN_IF_ERROR(CheckFacts(facts_));
  return model;
}

absl::Status BuiltServer::Probe(const ServerConfig& config, ModelRunner& runner,
                                EngineOptions& options) {
  absl::Status probe = ProbeExactness(runner);
  if (probe.ok()) return probe;
  // The pool is too small to run it.
  if (absl::IsFailedPrecondition(probe))
    return AtField(config.model().device() == config::v1::DEVICE_CUDA ? "cache.device_bytes"
                                                                      : "cache.host_bytes",
                   probe);
  if (config.model().exactness() != config::v1::EXACTNESS_BEST_EFFORT) return probe;
  logger_->Warning("exactness_probe_failed", {{"error", std::string(probe.message())}});
  options.exact = false;
  return absl::OkStatus();
}

absl::Status BuiltServer::OpenStore(const config::v1::CacheConfig& cache, EngineParts& parts) {
  if (!cache.store().enabled()) return absl::OkStatus();
  parts.on_event = [this](const EngineEvent& event) {
    if (event.error.empty()) return logger_->Info(event.name);
    logger_->Warning(event.name, {{"error", event.error}});
  };
  const StoreFactory open = [this, options = ToStoreOptions(cache.store())] {
    auto store = OpenRocksDbStore(options);
    if (!store.ok()) metrics_.StoreFailed(StoreFailure::kOpen);
    return store;
  };
  auto store = open();
  const bool stops = absl::IsFailedPrecondition(store.status()) || cache.store().required();
  if (!store.ok() && stops) return AtField("cache.store.path", store.status());
  parts.store = CreateReopeningStore(std::move(store), open);
  return absl::OkStatus();
}

absl::Status BuiltServer::OpenSimilarity(const ServerConfig& config, EngineParts& parts,
                                         EngineOptions& options) {
  const auto& cache = config.cache();
  const auto& similarity = cache.similarity();
  if (!similarity.enabled()) return absl::OkStatus();
  // A SEMANTIC request waits for its embedding; others must not feel that one is made.
  const bool waits = options.retrieval_mode == RetrievalMode::kSemantic;
  const int threads = waits ? ComputeThreads(config) : 1;
  auto loaded_encoder = LoadSentenceEncoder(similarity.encoder_path(), threads);
  RETURN_IF_ERROR(AtField("cache.similarity.encoder_path", loaded_encoder.status()));
  const SentenceEncoderModel encoder = *std::move(loaded_encoder);
  memory_.encoder_bytes = encoder.weight_bytes;
  ASSIGN_OR_RETURN(auto loaded, WordPieceTokenizer::Load(similarity.encoder_path()));
  const std::shared_ptr<const WordPieceTokenizer> pieces = std::move(loaded);
  parts.new_vectors = [dimensions = encoder.dimensions] { return CreateFaissIndex(dimensions); };
  parts.embed = [encoder, pieces](const std::string& text) {
    return encoder.encode(pieces->Encode(text, static_cast<size_t>(encoder.max_tokens)));
  };
  parts.embed_batch = [encoder, pieces](absl::Span<const std::string> texts) {
    std::vector<std::vector<int32_t>> ids;
    for (const std::string& text : texts) {
      ids.push_back(pieces->Encode(text, static_cast<size_t>(encoder.max_tokens)));
    }
    return encoder.encode_batch(ids);
  };
  if (parts.store == nullptr) {
    parts.vectors = CreateFaissIndex(encoder.dimensions);
    return absl::OkStatus();
  }
  const std::string folder = cache.store().path() + "/similarity";
  mkdir(folder.c_str(), 0755);  // an index that cannot be saved is rebuilt from the store
  options.vector_index_path =
      absl::StrCat(folder, "/", facts_.cache_identity.substr(0, 16), ".faiss");
  auto index = LoadFaissIndex(options.vector_index_path, encoder.dimensions);
  if (absl::IsDataLoss(index.status())) {
    logger_->Warning("vector_index_damaged", {{"error", std::string(index.status().message())}});
  }
  parts.vectors = index.ok() ? *std::move(index) : CreateFaissIndex(encoder.dimensions);
  if (similarity.rebuild()) MatchVectors(parts);
  return absl::OkStatus();
}

// The index is saved now and then; the store's prompts are what counts.
void BuiltServer::MatchVectors(EngineParts& parts) {
  const std::vector<uint64_t> ids = parts.vectors->Ids();
  std::set<uint64_t> unknown(ids.begin(), ids.end());
  int64_t added = 0;
  const absl::Status listed =
      parts.store->ForEachPrompt(parts.identity, [&](const PromptRecord& prompt) {
        unknown.erase(prompt.id);
        // After a crash an id may name another prompt than the index was saved with.
        if (parts.vectors->Holds(prompt.id, prompt.embedding)) return;
        // A record whose vector does not fit is only not found by similarity.
        added += parts.vectors->Add(prompt.id, prompt.embedding).ok() ? 1 : 0;
      });
  if (!listed.ok()) {
    logger_->Warning("vector_index_not_rebuilt", {{"error", std::string(listed.message())}});
    return;
  }
  for (const uint64_t id : unknown) parts.vectors->Remove(id).IgnoreError();
  if (added == 0 && unknown.empty()) return;
  logger_->Info("vector_index_rebuilt",
                {{"added", added}, {"removed", static_cast<int64_t>(unknown.size())}});
}

absl::Status BuiltServer::OpenStepTrace(const ServerConfig& config, EngineParts& parts) {
  if (config.log().step_trace_file().empty()) return absl::OkStatus();
  LogOptions options;
  options.file = config.log().step_trace_file();
  ASSIGN_OR_RETURN(step_log_, Logger::Create(options, &metrics_));
  parts.on_step = [log = step_log_.get()](const StepTrace& trace) {
    log->Info("step", ToLogFields(trace));
  };
  return absl::OkStatus();
}

// First of all, so that probes are answered and a busy port is told while the model loads.
absl::Status BuiltServer::ListenHttp(const ServerConfig& config) {
  const HttpCallbacks callbacks{[this] {
                                  // Brings the store's gauges up to date.
                                  if (ready_) engine_->GetCacheStats();
                                  metrics_.SetProcessUsage(ReadProcessUsage());
                                  return metrics_.Serialize();
                                },
                                [this] { return ready_.load(); }};
  ASSIGN_OR_RETURN(http_, HttpServer::Start(config.listen().http(), callbacks));
  return absl::OkStatus();
}

absl::Status BuiltServer::Listen(const ServerConfig& config) {
  handlers_ = std::make_unique<GenerationHandlers>(facts_, engine_.get(), &clock_);
  admin_ = std::make_unique<AdminHandlers>(facts_, engine_.get(), handlers_.get());
  if (!config.cache().warm_file().empty()) {
    RETURN_IF_ERROR(AtField("cache.warm_file", WarmFromFile(*admin_, config.cache().warm_file(),
                                                            config.cache().default_tenant())));
  }
  ASSIGN_OR_RETURN(grpc_, GrpcServer::Start(ToGrpcOptions(config.listen()),
                                            {handlers_.get(), admin_.get(), &metrics_,
                                             logger_.get(), &clock_, auth_}));
  grpc_->SetServing(true);
  ready_ = true;
  logger_->Info("listening", {{"inference_port", int64_t{grpc_->inference_port()}},
                              {"admin_port", int64_t{grpc_->admin_port()}},
                              {"http_port", int64_t{http_->port()}}});
  return absl::OkStatus();
}

absl::Status BuiltServer::Build(const ServerConfig& config) {
  LogOptions log;
  log.level = static_cast<LogLevel>(std::max(0, int{config.log().level()} - 1));
  log.json = config.log().format() != config::v1::LOG_FORMAT_TEXT;
  log.file = config.log().file();
  ASSIGN_OR_RETURN(logger_, Logger::Create(log, &metrics_));
  drain_timeout_ = ToDuration(config.listen().drain_timeout());
  const absl::Duration start = clock_.Monotonic();
  ASSIGN_OR_RETURN(auth_, PrepareAuthentication(config));
  RETURN_IF_ERROR(ListenHttp(config));

  EngineOptions options = ToEngineOptions(config);
  EngineParts parts;
  RETURN_IF_ERROR(LoadAll(config, parts).status());
  RETURN_IF_ERROR(Probe(config, *parts.runner, options));
  const bool caches = options.exact;
  if (caches) {
    RETURN_IF_ERROR(OpenStore(config.cache(), parts));
    RETURN_IF_ERROR(OpenSimilarity(config, parts, options));
  }
  if (options.store_codec == PayloadCodec::kInt8) options.exact = false;
  RETURN_IF_ERROR(OpenStepTrace(config, parts));
  parts.tokenizer = text_.tokenizer.get();
  parts.metrics = &metrics_;
  parts.clock = &clock_;
  ASSIGN_OR_RETURN(engine_, Engine::Create(options, std::move(parts)));
  const bool disk = engine_->GetCacheStats().disk_enabled;
  if (caches && config.cache().store().enabled() && config.cache().store().required() && !disk) {
    return AtField("cache.store.path", absl::UnavailableError("the store cannot be listed"));
  }
  metrics_.SetFacts({REPRISE_VERSION, facts_.name, facts_.numerics_id, facts_.cache_identity});
  metrics_.SetResidentMemory(memory_);
  logger_->Info("started", {{"model", facts_.name},
                            {"cache_identity", facts_.cache_identity},
                            {"numerics_id", facts_.numerics_id},
                            {"store", disk},
                            {"exact", options.exact},
                            {"seconds", absl::ToDoubleSeconds(clock_.Monotonic() - start)}});
  return Listen(config);
}

void BuiltServer::Drain() {
  logger_->Info("draining");
  ready_ = false;
  grpc_->SetServing(false);
  engine_->Drain(drain_timeout_);
  grpc_->Stop(absl::Seconds(1));
  logger_->Info("stopped");
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunningServer>> BuildServer(const ServerConfig& config) {
  auto server = std::make_unique<BuiltServer>();
  RETURN_IF_ERROR(server->Build(config));
  return server;
}

}  // namespace reprise::server
