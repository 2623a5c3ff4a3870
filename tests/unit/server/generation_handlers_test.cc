#include "server/generation_handlers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/fakes/byte_model.h"
#include "tests/fakes/simulated_clock.h"

namespace reprise::server {
namespace {

namespace wire = inference::v1;

// Answers each Submit with a scripted reply from a thread of its own.
class FakeEngine final : public Engine {
 public:
  std::vector<TokenChunk> chunks;
  absl::Status status;
  GenerateResult result;
  absl::Status refusal;
  bool wait_for_cancel = false;

  ~FakeEngine() override {
    if (thread_.joinable()) thread_.join();
  }

  absl::StatusOr<SequenceId> Submit(GenerateRequest request, GenerationSink sink) override {
    if (!refusal.ok()) return refusal;
    submitted = std::move(request);
    thread_ = std::thread([this, sink] {
      for (const TokenChunk& chunk : chunks) sink.on_chunk(chunk);
      while (wait_for_cancel && cancelled == 0) std::this_thread::yield();
      sink.on_done(wait_for_cancel ? absl::CancelledError("cancelled") : status, result);
    });
    return kId;
  }
  void Cancel(SequenceId id) override { cancelled = id; }
  absl::StatusOr<MarkedEntry> MarkEntry(const EntryMark&) override { return MarkedEntry(); }
  absl::StatusOr<EntryPage> ListEntries(const EntryQuery&) override { return EntryPage(); }
  absl::StatusOr<CacheEntry> FindEntry(const std::string&, const std::string&) override {
    return CacheEntry();
  }
  absl::StatusOr<CacheEntry> DescribeEntry(const std::string&, absl::Span<const TokenId>) override {
    return CacheEntry();
  }
  absl::StatusOr<PurgedEntry> PurgeEntry(const std::string&, absl::Span<const TokenId>) override {
    return PurgedEntry();
  }
  absl::Status Flush() override { return absl::OkStatus(); }
  ArchiveFormat GetArchiveFormat() const override { return {}; }
  absl::StatusOr<ArchivedEntry> ReadEntry(const std::string&, absl::Span<const TokenId>) override {
    return ArchivedEntry();
  }
  absl::StatusOr<Imported> WriteEntries(ImportBatch) override { return Imported(); }
  absl::StatusOr<Explanation> Explain(const ExplainRequest& request) override {
    if (!refusal.ok()) return refusal;
    if (request.is_cancelled()) return absl::CancelledError("cancelled");
    explain_deadline = request.deadline;
    Explanation explanation;
    explanation.ideal_tokens = static_cast<int32_t>(request.prompt.size()) - 1;
    return explanation;
  }
  CacheStats GetCacheStats() override { return {}; }
  void Drain(absl::Duration) override {}
  bool WaitUntilIdle(absl::Duration) override { return true; }

  static constexpr SequenceId kId = 42;
  GenerateRequest submitted;
  std::optional<absl::Duration> explain_deadline;
  std::atomic<SequenceId> cancelled{0};

 private:
  std::thread thread_;
};

class GenerationHandlersTest : public testing::Test {
 protected:
  GenerationHandlersTest() {
    call_.request_id = "id-1";
    call_.tenant = "alice";
    call_.received = clock_.Monotonic();
    call_.is_cancelled = [] { return false; };
    spec_.mutable_prompt()->set_text("hello");
  }

  absl::Status Generate() {
    const auto collect = [this](const wire::TokenChunk& chunk) {
      text_ += chunk.text();
      return reader_stays_;
    };
    return handlers_.Generate(call_, spec_, collect, reply_, summary_);
  }

  ByteModel model_{64};
  SimulatedClock clock_;
  FakeEngine engine_;
  GenerationHandlers handlers_{model_.facts, &engine_, &clock_};
  CallFacts call_;
  wire::GenerationSpec spec_;
  wire::Generation reply_;
  RequestSummary summary_;
  std::string text_;
  bool reader_stays_ = true;
};

TEST_F(GenerationHandlersTest, ChunksArriveInOrderAndTheReplyIsFilled) {
  engine_.chunks = {{{'a'}, "a"}, {{'b'}, "b"}, {{'c'}, "c"}};
  engine_.result.text = "abc";
  engine_.result.usage = {5, 0, 5, 3};
  engine_.result.finish_reason = FinishReason::kMaxTokens;
  ASSERT_TRUE(Generate().ok());
  EXPECT_EQ(text_, "abc");
  EXPECT_EQ(reply_.text(), "abc");
  EXPECT_EQ(reply_.response_id(), "id-1");
  EXPECT_EQ(reply_.usage().output_token_count(), 3);
  EXPECT_EQ(summary_.output_tokens, 3);
  EXPECT_EQ(summary_.finish_reason, "MAX_TOKENS");
}

TEST_F(GenerationHandlersTest, CallFactsReachTheEngine) {
  call_.deadline = clock_.Monotonic() + absl::Seconds(9);
  ASSERT_TRUE(Generate().ok());
  EXPECT_EQ(engine_.submitted.request_id, "id-1");
  EXPECT_EQ(engine_.submitted.received, call_.received);
  EXPECT_EQ(engine_.submitted.deadline, call_.deadline);
  EXPECT_EQ(engine_.submitted.tenant, "alice");
}

TEST_F(GenerationHandlersTest, BadRequestNeverReachesTheEngine) {
  spec_.set_max_output_tokens(-1);
  EXPECT_EQ(Generate().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(engine_.submitted.prompt.empty());
}

TEST_F(GenerationHandlersTest, RefusalByTheEngineIsReturned) {
  engine_.refusal = absl::ResourceExhaustedError("queue full");
  EXPECT_EQ(Generate(), engine_.refusal);
  wire::ExplainPromptRequest request;
  request.mutable_prompt()->set_text("hello");
  wire::ExplainPromptResponse response;
  EXPECT_EQ(handlers_.ExplainPrompt(call_, request, response), engine_.refusal);
}

TEST_F(GenerationHandlersTest, CancelledCallCancelsItsSequence) {
  engine_.wait_for_cancel = true;
  engine_.result.usage = {5, 0, 5, 0};
  call_.is_cancelled = [] { return true; };
  EXPECT_EQ(Generate().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(engine_.cancelled, FakeEngine::kId);
  EXPECT_EQ(summary_.prompt_tokens, 5);
  EXPECT_EQ(summary_.finish_reason, "");
}

TEST_F(GenerationHandlersTest, ReaderThatLeftCancelsTheSequence) {
  engine_.wait_for_cancel = true;
  engine_.chunks = {{{'a'}, "a"}};
  reader_stays_ = false;
  EXPECT_EQ(Generate().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(engine_.cancelled, FakeEngine::kId);
}

TEST_F(GenerationHandlersTest, CancellationPastTheDeadlineIsDeadlineExceeded) {
  engine_.wait_for_cancel = true;
  call_.deadline = clock_.Monotonic() + absl::Seconds(1);
  call_.is_cancelled = [this] {
    clock_.Advance(absl::Seconds(2));
    return true;
  };
  EXPECT_EQ(Generate().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(GenerationHandlersTest, CancellationJustBeforeTheDeadlineIsDeadlineExceeded) {
  engine_.wait_for_cancel = true;
  call_.deadline = clock_.Monotonic() + absl::Milliseconds(20);
  call_.is_cancelled = [] { return true; };
  EXPECT_EQ(Generate().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(GenerationHandlersTest, CancellationLongBeforeTheDeadlineIsCancelled) {
  engine_.wait_for_cancel = true;
  call_.deadline = clock_.Monotonic() + absl::Seconds(1);
  call_.is_cancelled = [] { return true; };
  EXPECT_EQ(Generate().code(), absl::StatusCode::kCancelled);
}

TEST_F(GenerationHandlersTest, EngineErrorKeepsItsCodeEvenWhenLate) {
  engine_.status = absl::InternalError("device fault");
  call_.deadline = absl::ZeroDuration();
  EXPECT_EQ(Generate(), engine_.status);
}

TEST_F(GenerationHandlersTest, CountTokensReturnsTheIds) {
  wire::CountTokensRequest request;
  request.mutable_prompt()->set_text("hi");
  wire::CountTokensResponse response;
  ASSERT_TRUE(handlers_.CountTokens(request, response).ok());
  EXPECT_EQ(response.token_count(), 2);
  EXPECT_EQ(response.token_ids(1), 'i');
}

TEST_F(GenerationHandlersTest, GetModelDescribesTheModel) {
  wire::GetModelResponse response;
  ASSERT_TRUE(handlers_.GetModel(call_, response).ok());
  EXPECT_EQ(response.model().name(), "bytes");
  EXPECT_EQ(response.model().context_length(), 64);
  EXPECT_EQ(response.model().vocabulary_size(), 257);
  EXPECT_EQ(response.model().chat_format(), "dialogpt");
}

TEST_F(GenerationHandlersTest, ModelWithoutChatFormatHasAnEmptyName) {
  const ChatTemplate none(ChatFormat::kNone, model_.tokenizer.get(), "");
  model_.facts.chat = &none;
  wire::GetModelResponse response;
  ASSERT_TRUE(handlers_.GetModel(call_, response).ok());
  EXPECT_EQ(response.model().chat_format(), "");
}

TEST_F(GenerationHandlersTest, ExplainPromptAsksWithTheTokenisedPrompt) {
  wire::ExplainPromptRequest request;
  request.mutable_prompt()->set_text("hello");
  wire::ExplainPromptResponse response;
  ASSERT_TRUE(handlers_.ExplainPrompt(call_, request, response).ok());
  EXPECT_EQ(response.prompt_token_count(), 5);
  EXPECT_EQ(response.ideal_token_count(), 4);
}

TEST_F(GenerationHandlersTest, ExplainPromptRefusesMoreContextThanItShows) {
  wire::ExplainPromptRequest request;
  request.mutable_prompt()->set_text("hello");
  wire::ExplainPromptResponse response;
  for (const auto& [count, ok] : {std::pair(-1, false), {0, true}, {256, true}, {257, false}}) {
    request.set_context_token_count(count);
    const absl::Status status = handlers_.ExplainPrompt(call_, request, response);
    EXPECT_EQ(status.ok(), ok) << count;
    if (ok) continue;
    EXPECT_EQ(status.message(),
              absl::StrCat("context_token_count: ", count, ", expected 0 to 256"));
  }
}

TEST_F(GenerationHandlersTest, ExplainPromptEndsWithItsCall) {
  wire::ExplainPromptRequest request;
  request.mutable_prompt()->set_text("hello");
  wire::ExplainPromptResponse response;
  call_.deadline = clock_.Monotonic() + absl::Seconds(9);
  ASSERT_TRUE(handlers_.ExplainPrompt(call_, request, response).ok());
  EXPECT_EQ(engine_.explain_deadline, call_.deadline);
  call_.is_cancelled = [] { return true; };
  EXPECT_TRUE(absl::IsCancelled(handlers_.ExplainPrompt(call_, request, response)));
  clock_.Advance(absl::Seconds(9));
  EXPECT_TRUE(absl::IsDeadlineExceeded(handlers_.ExplainPrompt(call_, request, response)))
      << "gRPC cancels a call whose deadline passes";
}

}  // namespace
}  // namespace reprise::server
