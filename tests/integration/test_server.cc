#include "tests/integration/test_server.h"

#include <grpcpp/grpcpp.h>

#include <stdexcept>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "core/similarity/brute_force_index.h"
#include "core/store/memory_store.h"
#include "tests/fakes/letter_embedding.h"
#include "tests/fakes/scripted_runner.h"

namespace reprise {
namespace {

template <typename T>
T Require(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(std::string(value.status().message()));
  return *std::move(value);
}

std::shared_ptr<grpc::Channel> Connect(int port) {
  return grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials());
}

}  // namespace

TestServer::TestServer(TestServerOptions options) : model_(options.context_length) {
  logger_ = Require(Logger::Create({.file = "/dev/null"}, &metrics_));
  EngineParts parts;
  parts.runner = CreateScriptedRunner({.context_length = options.context_length,
                                       .hashed_ids = options.hashed_ids,
                                       .before_step = [this](const StepBatch&) { gate_.Pass(); }});
  parts.store = CreateMemoryStore();
  parts.vectors = CreateBruteForceIndex(kLetterDimensions);
  parts.embed = EmbedLetters;
  parts.tokenizer = model_.tokenizer.get();
  parts.namespaces = options.namespaces;
  parts.new_vectors = [] { return CreateBruteForceIndex(kLetterDimensions); };
  parts.metrics = &metrics_;
  parts.clock = &clock_;
  options.engine.flush_after_idle = absl::Milliseconds(10);
  engine_ = Require(Engine::Create(options.engine, std::move(parts)));
  model_.facts.cache_policy = options.cache_policy;
  handlers_ = std::make_unique<server::GenerationHandlers>(model_.facts, engine_.get(), &clock_);
  admin_handlers_ =
      std::make_unique<server::AdminHandlers>(model_.facts, engine_.get(), handlers_.get());
  options.grpc.inference_address = options.grpc.admin_address = "127.0.0.1:0";
  options.auth.default_tenant = kTestTenant;
  grpc_ = Require(server::GrpcServer::Start(
      options.grpc,
      {handlers_.get(), admin_handlers_.get(), &metrics_, logger_.get(), &clock_, options.auth}));
  grpc_->SetServing(true);
  generation_ = inference::v1::GenerationService::NewStub(Connect(grpc_->inference_port()));
  admin_ = admin::v1::CacheAdminService::NewStub(Connect(grpc_->admin_port()));
}

TestServer::~TestServer() {
  gate_.Open();
  grpc_->Stop(absl::Seconds(1));
}

double TestServer::Metric(const std::string& name, const std::string& label) const {
  double sum = 0;
  for (const absl::string_view line : absl::StrSplit(metrics_.Serialize(), '\n')) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    const std::string& key = parts[0];
    const bool same = key == name || absl::StartsWith(key, name + "{");
    double value = 0;
    if (same && absl::StrContains(key, label) && absl::SimpleAtod(parts[1], &value)) sum += value;
  }
  return sum;
}

CacheStats TestServer::Settle() {
  CacheStats stats;
  do {
    engine_->WaitUntilIdle(absl::Seconds(10));
    stats = engine_->GetCacheStats();
  } while (stats.running_sequences + stats.queued_requests + stats.pending_write_segments > 0);
  return stats;
}

void TestServer::AwaitEnded(int count, const std::string& code) const {
  while (Metric("reprise_requests_total", code) < count) absl::SleepFor(absl::Milliseconds(1));
}

inference::v1::GenerationSpec TextSpec(const std::string& text, int32_t max_output_tokens) {
  inference::v1::GenerationSpec spec;
  spec.mutable_prompt()->set_text(text);
  spec.set_max_output_tokens(max_output_tokens);
  return spec;
}

}  // namespace reprise
