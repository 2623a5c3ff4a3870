// From the engine's results to the wire and to the summary that logs and metrics
// are made of. Pure functions.
#pragma once

#include "core/engine/engine.h"
#include "core/telemetry/metrics.h"
#include "reprise/admin/v1/cache_admin_service.pb.h"
#include "reprise/inference/v1/generation_service.pb.h"
#include "server/request_checks.h"

namespace reprise::server {

absl::Duration ToDuration(const google::protobuf::Duration& duration);

void FillGeneration(const GenerateResult& result, const ModelFacts& facts,
                    inference::v1::Generation& out);
// All but what only the call knows: ids, code and total.
void FillSummary(const GenerateResult& result, RequestSummary& out);

// A prompt that was explained, and how many tokens to show beside where it parts from another.
struct ExplainedPrompt {
  const TokenizedPrompt& prompt;
  int32_t context_tokens = 8;
};
void FillExplanation(const Explanation& explanation, const ExplainedPrompt& explained,
                     const ModelFacts& facts, inference::v1::ExplainPromptResponse& out);
void FillStats(const CacheStats& stats, admin::v1::GetCacheStatsResponse& out);

}  // namespace reprise::server
