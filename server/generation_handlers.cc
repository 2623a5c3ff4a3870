#include "server/generation_handlers.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/text/load_text.h"
#include "server/converters.h"
#include "server/status_map.h"

namespace reprise::server {
namespace {

// How late a cancelled call is noticed.
constexpr std::chrono::milliseconds kCancelPoll{5};

// The caller's own timer started before its deadline travelled here and ends the call this
// much before ours, at most, unless the caller cancelled.
constexpr absl::Duration kDeadlineTravel = absl::Milliseconds(50);

// Carries a reply from the engine thread, which only enqueues, to the handler's.
// The standard mutex, since ThreadSanitizer does not see into a packaged abseil.
class ReplyQueue {
 public:
  struct End {
    absl::Status status;
    GenerateResult result;
  };

  GenerationSink Sink(const std::shared_ptr<ReplyQueue>& self) {
    return {[self](TokenChunk chunk) {
              const std::lock_guard lock(self->mutex_);
              self->chunks_.push_back(std::move(chunk));
              self->news_.notify_one();
            },
            [self](absl::Status status, GenerateResult result) {
              const std::lock_guard lock(self->mutex_);
              self->end_ = End{std::move(status), std::move(result)};
              self->news_.notify_one();
            }};
  }

  // Waits a little; what has come since the last call.
  std::deque<TokenChunk> Take(std::optional<End>& end) {
    std::unique_lock lock(mutex_);
    news_.wait_for(lock, kCancelPoll, [this] { return !chunks_.empty() || end_.has_value(); });
    std::deque<TokenChunk> chunks;
    chunks.swap(chunks_);
    end.swap(end_);
    return chunks;
  }

 private:
  std::mutex mutex_;  // guards what follows
  std::condition_variable news_;
  std::deque<TokenChunk> chunks_;
  std::optional<End> end_;
};

}  // namespace

absl::Status GenerationHandlers::Generate(const CallFacts& call,
                                          const inference::v1::GenerationSpec& spec,
                                          const ChunkSink& on_chunk,
                                          inference::v1::Generation& reply,
                                          RequestSummary& summary) {
  const absl::Duration started = clock_->Monotonic();
  ASSIGN_OR_RETURN(GenerateRequest request, CheckSpec(spec, facts_));
  request.request_id = call.request_id;
  request.tenant = call.tenant;
  request.writes_at_once = call.writes_at_once;
  request.received = call.received;
  request.deadline = call.deadline;
  request.tokenize_time = clock_->Monotonic() - started;
  const auto queue = std::make_shared<ReplyQueue>();
  ASSIGN_OR_RETURN(const SequenceId id, engine_->Submit(std::move(request), queue->Sink(queue)));
  bool cancelled = false;
  std::optional<ReplyQueue::End> end;
  while (!end) {
    for (const TokenChunk& chunk : queue->Take(end)) {
      inference::v1::TokenChunk message;
      message.mutable_token_ids()->Assign(chunk.ids.begin(), chunk.ids.end());
      message.set_text(chunk.text);
      cancelled = (!cancelled && !on_chunk(message)) || cancelled;
    }
    if (cancelled || call.is_cancelled()) engine_->Cancel(id);
  }
  FillSummary(end->result, summary);
  summary.numerics_id = facts_.numerics_id;
  if (!end->status.ok()) {
    summary.finish_reason.clear();
    return EndOf(call, end->status);
  }
  FillGeneration(end->result, facts_, reply);
  reply.set_response_id(call.request_id);
  return absl::OkStatus();
}

// gRPC cancels a call whose deadline passes, so the engine may see only that.
absl::Status GenerationHandlers::EndOf(const CallFacts& call, const absl::Status& status) const {
  const bool late = call.deadline && clock_->Monotonic() + kDeadlineTravel >= *call.deadline;
  if (!absl::IsCancelled(status) || !late) return status;
  return absl::DeadlineExceededError("the deadline passed");
}

absl::Status GenerationHandlers::CountTokens(const inference::v1::CountTokensRequest& request,
                                             inference::v1::CountTokensResponse& response) {
  ASSIGN_OR_RETURN(const TokenizedPrompt prompt, Tokenize(request.prompt(), facts_));
  response.set_token_count(static_cast<int32_t>(prompt.ids.size()));
  response.mutable_token_ids()->Assign(prompt.ids.begin(), prompt.ids.end());
  return absl::OkStatus();
}

absl::Status GenerationHandlers::GetModel(const CallFacts& call,
                                          inference::v1::GetModelResponse& response) {
  auto& model = *response.mutable_model();
  model.set_name(facts_.name);
  model.set_architecture(facts_.architecture);
  model.set_context_length(facts_.context_length);
  model.set_vocabulary_size(facts_.vocabulary_size);
  model.set_weight_dtype(facts_.weight_dtype);
  model.set_kv_dtype(facts_.kv_dtype);
  model.set_numerics_id(facts_.numerics_id);
  const auto own = facts_.tenant_identities.find(call.tenant);
  model.set_cache_identity(own == facts_.tenant_identities.end() ? facts_.cache_identity
                                                                 : own->second);
  const ChatFormat format = facts_.chat->format();
  if (format != ChatFormat::kNone) model.set_chat_format(ChatFormatName(format));
  model.set_device("cpu");
  return absl::OkStatus();
}

absl::Status GenerationHandlers::ExplainPrompt(const CallFacts& call,
                                               const inference::v1::ExplainPromptRequest& request,
                                               inference::v1::ExplainPromptResponse& response) {
  constexpr int32_t kDefaultContext = 8, kMaxContext = 256;
  const int32_t context = request.context_token_count();
  if (context < 0 || context > kMaxContext) {
    return FieldViolation("context_token_count",
                          absl::StrCat(context, ", expected 0 to ", kMaxContext));
  }
  ASSIGN_OR_RETURN(const TokenizedPrompt prompt, Tokenize(request.prompt(), facts_));
  const auto explanation =
      engine_->Explain({call.tenant, prompt.ids, prompt.text, call.deadline, call.is_cancelled});
  if (!explanation.ok()) return EndOf(call, explanation.status());
  FillExplanation(*explanation, {prompt, context > 0 ? context : kDefaultContext}, facts_,
                  response);
  return absl::OkStatus();
}

}  // namespace reprise::server
