// The RPCs end to end: what a caller gets, good requests and bad.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/integration/raw_call.h"
#include "tests/integration/test_server.h"

namespace reprise {
namespace {

namespace wire = inference::v1;

constexpr char kPrompt[] =
    "the quick brown fox jumps over the lazy dog and then it rests for quite a while in the shade";

template <typename Detail>
bool HasDetail(const grpc::Status& status) {
  google::rpc::Status rich;
  if (!rich.ParseFromString(status.error_details())) return false;
  for (const auto& any : rich.details()) {
    if (any.Is<Detail>()) return true;
  }
  return false;
}

class ServingTest : public testing::Test {
 protected:
  explicit ServingTest(const TestServerOptions& options = {}) : server_(options) {}

  grpc::Status Generate(const wire::GenerationSpec& spec, wire::Generation& reply) {
    grpc::ClientContext context;
    wire::GenerateRequest request;
    *request.mutable_spec() = spec;
    wire::GenerateResponse response;
    const grpc::Status status = server_.generation().Generate(&context, request, &response);
    reply = response.generation();
    return status;
  }

  grpc::Status Stream(const wire::GenerationSpec& spec, std::string& text,
                      std::optional<wire::Generation>& last) {
    grpc::ClientContext context;
    wire::StreamGenerateRequest request;
    *request.mutable_spec() = spec;
    const auto reader = server_.generation().StreamGenerate(&context, request);
    wire::StreamGenerateResponse message;
    while (reader->Read(&message)) {
      EXPECT_FALSE(last.has_value()) << "a message after the last one";
      if (message.has_completed()) last = message.completed();
      text += message.chunk().text();
    }
    return reader->Finish();
  }

  TestServer server_;
};

TEST_F(ServingTest, StreamAndUnaryGiveTheSameReply) {
  wire::Generation unary;
  ASSERT_TRUE(Generate(TextSpec(kPrompt, 24), unary).ok());
  std::string text;
  std::optional<wire::Generation> last;
  ASSERT_TRUE(Stream(TextSpec(kPrompt, 24), text, last).ok());
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(unary.text().size(), 24u);
  EXPECT_EQ(text, unary.text());
  EXPECT_EQ(last->text(), unary.text());
  EXPECT_EQ(last->usage().output_token_count(), 24);
  EXPECT_EQ(last->finish_reason(), wire::FINISH_REASON_MAX_TOKENS);
}

TEST_F(ServingTest, WarmReplyEqualsColdAndAccountsForEveryToken) {
  wire::GenerationSpec spec = TextSpec(kPrompt, 16);
  spec.mutable_cache()->set_policy(wire::CACHE_POLICY_BYPASS);
  wire::Generation cold, first, warm;
  ASSERT_TRUE(Generate(spec, cold).ok());
  spec.mutable_cache()->set_policy(wire::CACHE_POLICY_FORCE);
  ASSERT_TRUE(Generate(spec, first).ok());
  server_.Settle();
  ASSERT_TRUE(Generate(spec, warm).ok());
  const auto size = static_cast<int32_t>(sizeof(kPrompt)) - 1;
  EXPECT_EQ(cold.reuse().decision(), wire::REUSE_DECISION_BYPASSED);
  EXPECT_EQ(warm.reuse().decision(), wire::REUSE_DECISION_REUSED);
  EXPECT_EQ(warm.reuse().reason(), wire::REUSE_REASON_FORCED);
  EXPECT_EQ(warm.usage().cached_token_count(), size - 1);
  EXPECT_EQ(warm.usage().computed_token_count(), 1);
  EXPECT_EQ(first.text(), cold.text());
  EXPECT_EQ(warm.text(), cold.text());
}

TEST_F(ServingTest, MetricsEqualTheSumOfTheReplies) {
  int64_t prompt = 0, cached = 0, computed = 0, output = 0;
  for (int i = 0; i < 5; ++i) {
    wire::GenerationSpec spec = TextSpec(absl::StrCat(kPrompt, i % 2), i);
    spec.mutable_cache()->set_policy(wire::CACHE_POLICY_FORCE);
    wire::Generation reply;
    ASSERT_TRUE(Generate(spec, reply).ok());
    prompt += reply.usage().prompt_token_count();
    cached += reply.usage().cached_token_count();
    computed += reply.usage().computed_token_count();
    output += reply.usage().output_token_count();
  }
  wire::Generation refused;
  EXPECT_FALSE(Generate(TextSpec("", 1), refused).ok());
  server_.AwaitEnded(6);
  EXPECT_GT(cached, 0);
  EXPECT_EQ(cached + computed, prompt);
  EXPECT_EQ(server_.Metric("reprise_prompt_tokens_total"), prompt);
  EXPECT_EQ(server_.Metric("reprise_cached_prompt_tokens_total"), cached);
  EXPECT_EQ(server_.Metric("reprise_computed_prompt_tokens_total"), computed);
  EXPECT_EQ(server_.Metric("reprise_output_tokens_total"), output);
  EXPECT_EQ(server_.Metric("reprise_requests_total", "\"OK\""), 5);
  EXPECT_EQ(server_.Metric("reprise_requests_total", "INVALID_ARGUMENT"), 1);
}

// Over a model whose text repeats itself.
class SpeculationServingTest : public ServingTest {
 protected:
  SpeculationServingTest() : ServingTest({.hashed_ids = 2}) {}
};

TEST_F(SpeculationServingTest, SpeculationChangesNoTokenAndIsCountedAsTheReplySays) {
  wire::GenerationSpec spec = TextSpec(kPrompt, 150);
  wire::Generation plain, unary;
  ASSERT_TRUE(Generate(spec, plain).ok());
  EXPECT_EQ(plain.usage().draft_token_count(), 0);
  spec.mutable_speculation()->set_mode(wire::SPECULATION_MODE_PROMPT_LOOKUP);
  ASSERT_TRUE(Generate(spec, unary).ok());
  std::string text;
  std::optional<wire::Generation> streamed;
  ASSERT_TRUE(Stream(spec, text, streamed).ok());
  server_.AwaitEnded(3);
  EXPECT_EQ(unary.text(), plain.text());
  EXPECT_EQ(text, plain.text());
  EXPECT_GT(unary.usage().accepted_token_count(), 0);
  EXPECT_EQ(server_.Metric("reprise_speculation_draft_tokens_total"),
            unary.usage().draft_token_count() + streamed->usage().draft_token_count());
  EXPECT_EQ(server_.Metric("reprise_speculation_accepted_tokens_total"),
            unary.usage().accepted_token_count() + streamed->usage().accepted_token_count());
}

TEST_F(ServingTest, CallLastsLongerThanItsReplySays) {
  wire::Generation reply;
  ASSERT_TRUE(Generate(TextSpec(kPrompt, 4), reply).ok());
  server_.AwaitEnded(1);
  const double total = static_cast<double>(reply.timings().total().seconds()) +
                       reply.timings().total().nanos() * 1e-9;
  EXPECT_GT(server_.Metric("reprise_request_seconds_sum"), total) << "the way to the caller counts";
}

TEST_F(ServingTest, SemanticModeFindsTheCachedPrompt) {
  wire::GenerationSpec spec = TextSpec(kPrompt, 0);
  spec.mutable_cache()->set_policy(wire::CACHE_POLICY_FORCE);
  spec.mutable_cache()->set_retrieval_mode(wire::RETRIEVAL_MODE_SEMANTIC);
  wire::Generation reply;
  ASSERT_TRUE(Generate(spec, reply).ok());
  EXPECT_EQ(reply.reuse().decision(), wire::REUSE_DECISION_MISS);
  server_.Settle();
  spec.mutable_prompt()->set_text(absl::StrCat(kPrompt, " of a tree"));
  ASSERT_TRUE(Generate(spec, reply).ok());
  EXPECT_EQ(reply.reuse().retrieval_mode(), wire::RETRIEVAL_MODE_SEMANTIC);
  EXPECT_EQ(reply.reuse().candidate_status(), wire::CANDIDATE_STATUS_FOUND);
  EXPECT_EQ(reply.usage().cached_token_count(), static_cast<int32_t>(sizeof(kPrompt)) - 1);
}

TEST_F(ServingTest, ExplainShowsWhereAPromptLeavesTheNearestOne) {
  wire::Generation reply;
  ASSERT_TRUE(Generate(TextSpec("the cat sat", 0), reply).ok());
  server_.Settle();
  grpc::ClientContext context;
  wire::ExplainPromptRequest request;
  request.mutable_prompt()->set_text("the cot sat");
  wire::ExplainPromptResponse response;
  ASSERT_TRUE(server_.generation().ExplainPrompt(&context, request, &response).ok());
  EXPECT_EQ(response.ideal_token_count(), 5);
  EXPECT_EQ(response.divergence().position(), 5);
  EXPECT_EQ(response.divergence().prompt_token_text(), "o");
  EXPECT_EQ(response.divergence().cached_token_text(), "a");
}

TEST_F(ServingTest, ReflectionEndsWellAndIsNoRequest) {
  RawCall call(server_.grpc().inference_port(),
               "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
               "\x3A\x01*");  // list_services
  const auto reply = call.Read();
  ASSERT_TRUE(reply);
  EXPECT_NE(reply->find("reprise.inference.v1.GenerationService"), std::string::npos);
  EXPECT_EQ(call.Read(), std::nullopt);
  EXPECT_TRUE(call.Finish().ok());
  EXPECT_EQ(server_.Metric("reprise_requests_total"), 0);
}

TEST_F(ServingTest, StopSequenceEndsTheReplyBeforeIt) {
  wire::Generation whole, stopped;
  ASSERT_TRUE(Generate(TextSpec(kPrompt, 24), whole).ok());
  wire::GenerationSpec spec = TextSpec(kPrompt, 24);
  const std::string stop = whole.text().substr(10, 6);
  spec.add_stop_sequences(stop);
  ASSERT_TRUE(Generate(spec, stopped).ok());
  EXPECT_EQ(stopped.finish_reason(), wire::FINISH_REASON_STOP_SEQUENCE);
  EXPECT_EQ(stopped.matched_stop_sequence(), stop);
  EXPECT_EQ(stopped.text(), whole.text().substr(0, whole.text().find(stop)));
}

TEST_F(ServingTest, BadFieldIsNamedInTheErrorDetails) {
  wire::GenerationSpec spec = TextSpec("hello", 4);
  spec.mutable_sampling()->set_top_p(2);
  wire::Generation reply;
  const grpc::Status status = Generate(spec, reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(absl::StrContains(status.error_message(), "sampling.top_p"));
  EXPECT_TRUE(HasDetail<google::rpc::ErrorInfo>(status));
  EXPECT_TRUE(HasDetail<google::rpc::BadRequest>(status));
}

TEST_F(ServingTest, MessageOverTheLimitIsRefusedAndTheServerGoesOn) {
  wire::Generation reply;
  const grpc::Status status = Generate(TextSpec(std::string(5 << 20, 'a'), 1), reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(Generate(TextSpec("hello", 1), reply).ok());
}

// The protobuf parser of gRPC refuses it before any handler runs.
TEST_F(ServingTest, InvalidUtf8OnTheWireIsRefusedAndTheServerGoesOn) {
  wire::GenerateRequest request;
  request.mutable_spec()->mutable_prompt()->set_text("ab");
  std::string bytes = request.SerializeAsString();
  bytes.back() = '\xFF';
  RawCall call(server_.grpc().inference_port(), "/reprise.inference.v1.GenerationService/Generate",
               bytes);
  EXPECT_EQ(call.Read(), std::nullopt);
  const grpc::Status refused = call.Finish();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(absl::StrContains(refused.error_message(), "not valid UTF-8"));
  EXPECT_FALSE(refused.error_details().empty());
  server_.AwaitEnded(1, "INVALID_ARGUMENT");
  wire::Generation reply;
  EXPECT_TRUE(Generate(TextSpec("hello", 1), reply).ok());
}

std::string ReturnedRequestId(TestServer& server, const std::string& sent) {
  grpc::ClientContext context;
  if (!sent.empty()) context.AddMetadata("x-request-id", sent);
  wire::CountTokensRequest request;
  request.mutable_prompt()->set_text("hello");
  wire::CountTokensResponse response;
  EXPECT_TRUE(server.generation().CountTokens(&context, request, &response).ok());
  const auto& metadata = context.GetServerInitialMetadata();
  const auto found = metadata.find("x-request-id");
  if (found == metadata.end()) return "";
  return std::string(found->second.data(), found->second.size());
}

TEST_F(ServingTest, RequestIdIsReturnedOrMade) {
  EXPECT_EQ(ReturnedRequestId(server_, "order-66"), "order-66");
  const std::string made = ReturnedRequestId(server_, "");
  EXPECT_FALSE(made.empty());
  EXPECT_NE(ReturnedRequestId(server_, ""), made);
  EXPECT_NE(ReturnedRequestId(server_, std::string(200, 'x')), std::string(200, 'x'));
}

TEST_F(ServingTest, StatsShowWhatIsCached) {
  wire::Generation reply;
  ASSERT_TRUE(Generate(TextSpec(kPrompt, 0), reply).ok());
  server_.Settle();
  grpc::ClientContext context;
  admin::v1::GetCacheStatsResponse stats;
  ASSERT_TRUE(server_.admin().GetCacheStats(&context, {}, &stats).ok());
  EXPECT_TRUE(stats.disk().enabled());
  EXPECT_EQ(stats.host().cached_token_count(), static_cast<int64_t>(sizeof(kPrompt)) - 1);
  EXPECT_EQ(stats.disk().cached_token_count(), static_cast<int64_t>(sizeof(kPrompt)) - 1);
  EXPECT_EQ(stats.similarity().vector_count(), 1);
}

}  // namespace
}  // namespace reprise
