// A server whose replies take a known time, for measuring the client of a load test: no
// model, no cache. Runs until it is killed.
//
//   scripted_server ADDRESS FIRST_TOKEN_MS TOKENS TOKEN_MS
//
// Each reply's first token comes FIRST_TOKEN_MS after its request, then one each TOKEN_MS.
#include <grpcpp/grpcpp.h>

#include <iostream>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "reprise/inference/v1/generation_service.grpc.pb.h"

namespace reprise::bench {
namespace {

using inference::v1::GetModelRequest;
using inference::v1::GetModelResponse;
using inference::v1::StreamGenerateRequest;
using inference::v1::StreamGenerateResponse;

struct Script {
  int first_token_ms = 0;
  int tokens = 0;
  int token_ms = 0;
};

class ScriptedService final : public inference::v1::GenerationService::Service {
 public:
  explicit ScriptedService(const Script& script) : script_(script) {}

  grpc::Status GetModel(grpc::ServerContext* context, const GetModelRequest* request,
                        GetModelResponse* response) override {
    auto& model = *response->mutable_model();
    model.set_name("scripted");
    model.set_architecture("scripted");
    model.set_context_length(2048);
    model.set_vocabulary_size(50000);
    model.set_device("none");
    return grpc::Status::OK;
  }

  grpc::Status StreamGenerate(grpc::ServerContext* context, const StreamGenerateRequest* request,
                              grpc::ServerWriter<StreamGenerateResponse>* writer) override {
    const absl::Time start = absl::Now();
    const auto since_start = [&] { return absl::ToInt64Nanoseconds(absl::Now() - start); };
    StreamGenerateResponse last;
    auto& reply = *last.mutable_completed();
    auto& timings = *reply.mutable_timings();
    for (int i = 0; i < script_.tokens; ++i) {
      absl::SleepFor(start + absl::Milliseconds(script_.first_token_ms + i * script_.token_ms) -
                     absl::Now());
      StreamGenerateResponse chunk;
      chunk.mutable_chunk()->add_token_ids(i);
      reply.add_token_ids(i);
      if (i == 0) timings.mutable_time_to_first_token()->set_nanos(static_cast<int>(since_start()));
      if (!writer->Write(chunk)) return {grpc::StatusCode::CANCELLED, "the client is gone"};
    }
    timings.mutable_total()->set_nanos(static_cast<int>(since_start()));
    const int prompt = request->spec().prompt().token_ids().ids_size();
    reply.mutable_usage()->set_prompt_token_count(prompt);
    reply.mutable_usage()->set_computed_token_count(prompt);
    reply.mutable_usage()->set_output_token_count(script_.tokens);
    writer->WriteLast(last, {});
    return grpc::Status::OK;
  }

 private:
  const Script script_;
};

int Main(int argc, char** argv) {
  Script script;
  if (argc != 5 || !absl::SimpleAtoi(argv[2], &script.first_token_ms) ||
      !absl::SimpleAtoi(argv[3], &script.tokens) || !absl::SimpleAtoi(argv[4], &script.token_ms)) {
    std::cerr << "scripted_server ADDRESS FIRST_TOKEN_MS TOKENS TOKEN_MS\n";
    return 2;
  }
  ScriptedService service(script);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(argv[1], grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  if (server == nullptr) {
    std::cerr << "scripted_server: cannot listen on " << argv[1] << "\n";
    return 1;
  }
  std::cout << "ready" << std::endl;
  server->Wait();
  return 0;
}

}  // namespace
}  // namespace reprise::bench

int main(int argc, char** argv) { return reprise::bench::Main(argc, argv); }
