// How calls and the server end: cancellation, deadlines, overload, health, drain.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/http_server.h"
#include "tests/integration/raw_call.h"
#include "tests/integration/test_server.h"

namespace reprise {
namespace {

namespace wire = inference::v1;

// Messages of grpc.health.v1 and of reflection, encoded by hand.
constexpr char kCheck[] = "/grpc.health.v1.Health/Check";
constexpr char kWatch[] = "/grpc.health.v1.Health/Watch";
constexpr char kServing[] = "\x08\x01";
constexpr char kNotServing[] = "\x08\x02";
constexpr char kReflection[] = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
constexpr char kListServices[] = "\x3A\x01*";

std::string HealthRequest(const std::string& service) {
  return absl::StrCat("\x0A", std::string(1, static_cast<char>(service.size())), service);
}

std::string Check(int port, const std::string& service) {
  RawCall call(port, kCheck, HealthRequest(service));
  return call.Read().value_or("no answer");
}

constexpr int32_t kHeldTokens = 1000;

// A stream that has begun and whose first step stands at the closed gate.
class HeldStream {
 public:
  HeldStream(TestServer& server, std::chrono::milliseconds timeout) {
    server.gate().Close();
    context_.set_deadline(std::chrono::system_clock::now() + timeout);
    wire::StreamGenerateRequest request;
    *request.mutable_spec() = TextSpec("a prompt that is held", kHeldTokens);
    reader_ = server.generation().StreamGenerate(&context_, request);
    server.gate().AwaitWaiter();
  }

  void Cancel() { context_.TryCancel(); }

  // Reads to the end.
  grpc::Status Finish() {
    wire::StreamGenerateResponse message;
    while (reader_->Read(&message)) completed_ = message.has_completed();
    return reader_->Finish();
  }
  bool completed() const { return completed_; }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<wire::StreamGenerateResponse>> reader_;
  bool completed_ = false;
};

constexpr std::chrono::milliseconds kLong{60000};

grpc::Status CountTokens(TestServer& server) {
  grpc::ClientContext context;
  wire::CountTokensRequest request;
  request.mutable_prompt()->set_text("hello");
  wire::CountTokensResponse response;
  return server.generation().CountTokens(&context, request, &response);
}

// An admin call that is refused without the engine, which may stand at a gate.
grpc::Status BadAdminCall(TestServer& server) {
  grpc::ClientContext context;
  admin::v1::ListCacheEntriesRequest request;
  request.set_page_size(-1);
  admin::v1::ListCacheEntriesResponse response;
  return server.admin().ListCacheEntries(&context, request, &response);
}

grpc::Status Generate(TestServer& server, std::chrono::milliseconds timeout) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  wire::GenerateRequest request;
  *request.mutable_spec() = TextSpec("hello", 2);
  wire::GenerateResponse response;
  return server.generation().Generate(&context, request, &response);
}

bool SaysWhenToRetry(const grpc::Status& status) {
  google::rpc::Status rich;
  if (!rich.ParseFromString(status.error_details())) return false;
  for (const auto& any : rich.details()) {
    if (any.Is<google::rpc::RetryInfo>()) return true;
  }
  return false;
}

void ExpectNothingHeld(TestServer& server) {
  const CacheStats stats = server.Settle();
  EXPECT_EQ(stats.running_sequences, 0);
  EXPECT_EQ(stats.host_free_block_count + stats.host_cached_block_count, stats.host_block_count);
}

// Lets the engine go on step by step, far fewer than the stream asked for, until
// it has noticed that nobody waits any more.
void ExpectEndsEarly(TestServer& server, const std::vector<std::string>& codes) {
  int steps = 0;
  while (server.Metric("reprise_requests_total") < 1 && steps++ < kHeldTokens / 2) {
    server.gate().LetOnePass();
    absl::SleepFor(absl::Milliseconds(2));
  }
  double ended = 0;
  for (const std::string& code : codes) ended += server.Metric("reprise_requests_total", code);
  EXPECT_EQ(ended, 1);
  server.gate().Open();
  ExpectNothingHeld(server);
}

TEST(LifecycleTest, CancelledStreamFreesItsBlocks) {
  TestServer server;
  HeldStream stream(server, kLong);
  stream.Cancel();
  EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::CANCELLED);
  ExpectEndsEarly(server, {"CANCELLED"});
}

TEST(LifecycleTest, PassedDeadlineFreesItsBlocks) {
  TestServer server;
  HeldStream stream(server, std::chrono::milliseconds(2000));
  EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  // A caller's timer may end the call so long before the server's that it looks cancelled.
  ExpectEndsEarly(server, {"DEADLINE_EXCEEDED", "CANCELLED"});
}

TEST(LifecycleTest, CallsOverTheLimitAreRefusedWithADelay) {
  TestServerOptions options;
  options.grpc.max_concurrent_rpcs = 1;
  TestServer server(options);
  HeldStream stream(server, kLong);
  const grpc::Status refused = CountTokens(server);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(SaysWhenToRetry(refused));
  EXPECT_EQ(BadAdminCall(server).error_code(), grpc::StatusCode::INVALID_ARGUMENT)
      << "the admin port counts its own calls";
  server.gate().Open();
  EXPECT_TRUE(stream.Finish().ok());
  server.AwaitEnded(3);
  EXPECT_TRUE(CountTokens(server).ok());
}

TEST(LifecycleTest, FullQueueIsRefusedWithADelay) {
  TestServerOptions options;
  options.engine.max_queued_requests = 1;
  TestServer server(options);
  HeldStream stream(server, kLong);
  // The engine stands in a step, so one of two waits and the other finds no place.
  std::array<grpc::Status, 2> ends;
  std::thread first([&] { ends[0] = Generate(server, kLong); });
  std::thread second([&] { ends[1] = Generate(server, kLong); });
  server.AwaitEnded(1, "RESOURCE_EXHAUSTED");
  server.gate().Open();
  first.join();
  second.join();
  EXPECT_NE(ends[0].ok(), ends[1].ok());
  EXPECT_TRUE(SaysWhenToRetry(ends[0].ok() ? ends[1] : ends[0]));
  EXPECT_TRUE(stream.Finish().ok());
}

TEST(LifecycleTest, HealthKnowsEveryName) {
  TestServer server;
  const int inference = server.grpc().inference_port(), admin = server.grpc().admin_port();
  for (const char* name : {"", "liveness", "readiness"}) {
    EXPECT_EQ(Check(inference, name), kServing) << name;
    EXPECT_EQ(Check(admin, name), kServing) << name;
  }
  EXPECT_EQ(Check(inference, "reprise.inference.v1.GenerationService"), kServing);
  EXPECT_EQ(Check(admin, "reprise.admin.v1.CacheAdminService"), kServing);
  RawCall unknown(inference, kCheck, HealthRequest("unknown"));
  EXPECT_EQ(unknown.Read(), std::nullopt);
  EXPECT_EQ(unknown.Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST(LifecycleTest, WatchSeesTheServerLeave) {
  TestServer server;
  const int port = server.grpc().inference_port();
  RawCall watch(port, kWatch, HealthRequest("reprise.inference.v1.GenerationService"));
  EXPECT_EQ(watch.Read(), kServing);
  server.grpc().SetServing(false);
  EXPECT_EQ(watch.Read(), kNotServing);
  EXPECT_EQ(Check(port, "readiness"), kNotServing);
  EXPECT_EQ(Check(port, "liveness"), kServing);
}

TEST(LifecycleTest, ReflectionListsTheServices) {
  TestServer server;
  RawCall call(server.grpc().inference_port(), kReflection, kListServices);
  const std::string list = call.Read().value_or("");
  EXPECT_TRUE(absl::StrContains(list, "reprise.inference.v1.GenerationService")) << list;
  EXPECT_TRUE(absl::StrContains(list, "grpc.health.v1.Health")) << list;
}

TEST(LifecycleTest, BusyPortIsAnErrorThatNamesIt) {
  TestServer server;
  server::GrpcOptions options;
  options.inference_address = absl::StrCat("127.0.0.1:", server.grpc().inference_port());
  options.admin_address = "127.0.0.1:0";
  const auto second = server::GrpcServer::Start(options, {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(second.status().message(), options.inference_address));
}

// Asks until the engine refuses because it drains.
grpc::Status AwaitRefusal(TestServer& server) {
  grpc::Status status;
  while (status.error_code() != grpc::StatusCode::UNAVAILABLE) {
    status = Generate(server, std::chrono::milliseconds(50));
  }
  return status;
}

TEST(LifecycleTest, DrainFinishesWhatRunsAndRefusesWhatComes) {
  TestServer server;
  HeldStream stream(server, kLong);
  std::thread drain([&server] { server.engine().Drain(absl::Seconds(60)); });
  EXPECT_TRUE(SaysWhenToRetry(AwaitRefusal(server)));
  server.gate().Open();
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_TRUE(stream.completed());
  drain.join();
}

TEST(LifecycleTest, DrainOutOfTimeEndsWhatRuns) {
  TestServer server;
  HeldStream stream(server, kLong);
  std::thread drain([&server] { server.engine().Drain(absl::ZeroDuration()); });
  AwaitRefusal(server);
  server.gate().LetOnePass();
  EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_FALSE(stream.completed());
  server.gate().Open();
  drain.join();
}

TEST(LifecycleTest, HttpEndsThoughItIsStoppedRightAfterItsStart) {
  const server::HttpCallbacks callbacks{[] { return std::string(); }, [] { return true; }};
  for (int i = 0; i < 100; ++i) {
    const auto http = server::HttpServer::Start("127.0.0.1:0", callbacks);
    ASSERT_TRUE(http.ok()) << http.status();
  }
}

}  // namespace
}  // namespace reprise
