// GenerationHandlers: what each RPC does, knowing no gRPC: check, call, fill.
//
// Threading  every method is safe from any thread and blocks until its RPC ends.
#pragma once

#include <functional>
#include <optional>

#include "absl/status/status.h"
#include "core/base/clock.h"
#include "core/engine/engine.h"
#include "core/telemetry/metrics.h"
#include "reprise/inference/v1/generation_service.pb.h"
#include "server/request_checks.h"

namespace reprise::server {

// What a handler knows of its call.
struct CallFacts {
  std::string request_id;
  absl::Duration received;                 // Clock::Monotonic at entry
  std::optional<absl::Duration> deadline;  // on the same clock
  std::function<bool()> is_cancelled;      // polled while waiting
  std::string tenant;                      // the caller's, by its credential
  bool writes_at_once = false;             // an operator wants the KV in the store
};

class GenerationHandlers {
 public:
  // False: the reader is gone.
  using ChunkSink = std::function<bool(const inference::v1::TokenChunk&)>;

  // All outlive this.
  GenerationHandlers(const ModelFacts& facts, Engine* engine, const Clock* clock)
      : facts_(facts), engine_(engine), clock_(clock) {}

  // Generates; calls `on_chunk` as tokens come. Fills `summary` however it ends, and
  // `reply` when it ends well.
  absl::Status Generate(const CallFacts& call, const inference::v1::GenerationSpec& spec,
                        const ChunkSink& on_chunk, inference::v1::Generation& reply,
                        RequestSummary& summary);
  absl::Status CountTokens(const inference::v1::CountTokensRequest& request,
                           inference::v1::CountTokensResponse& response);
  absl::Status GetModel(const CallFacts& call, inference::v1::GetModelResponse& response);
  absl::Status ExplainPrompt(const CallFacts& call,
                             const inference::v1::ExplainPromptRequest& request,
                             inference::v1::ExplainPromptResponse& response);

 private:
  // What the call ends with: a cancellation past the deadline came from that.
  absl::Status EndOf(const CallFacts& call, const absl::Status& status) const;

  const ModelFacts& facts_;
  Engine* engine_;
  const Clock* clock_;
};

}  // namespace reprise::server
