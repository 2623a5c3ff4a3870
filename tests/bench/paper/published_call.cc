#include "tests/bench/paper/published_call.h"

#include <cstring>
#include <numeric>

#include "absl/memory/memory.h"
#include "absl/time/clock.h"
#include "core/base/status_macros.h"
#include "core/model/sampling.h"

namespace reprise::bench {
namespace {

int32_t BlocksOf(int32_t slots) { return (slots + kBlockTokens - 1) / kBlockTokens; }

double Milliseconds(absl::Time since) { return absl::ToDoubleMilliseconds(absl::Now() - since); }

}  // namespace

Feed PublishedFeed(absl::Span<const TokenId> suffix, int32_t cached) {
  const auto size = static_cast<int32_t>(suffix.size());
  if (size <= cached) return {{suffix.back()}, size - 1};
  return {{suffix.begin() + cached, suffix.end()}, cached};
}

Feed CorrectFeed(absl::Span<const TokenId> suffix, int32_t cached) {
  return {{suffix.begin(), suffix.end()}, cached};
}

PositionedModel::PositionedModel(const LoadedModel& model, int threads, int32_t max_slots)
    : pool_(threads,
            [] {
              thread_local FlushDenormals flush;  // as long as its worker thread
            }),
      kv_(model.config, Dtype::kBfloat16,
          BlocksOf(max_slots) * KvPool(model.config, Dtype::kBfloat16, 0).block_bytes()),
      blocks_(BlocksOf(max_slots)) {
  std::iota(blocks_.begin(), blocks_.end(), 0);
}

absl::StatusOr<std::unique_ptr<PositionedModel>> PositionedModel::Create(const LoadedModel& model,
                                                                         int threads,
                                                                         int32_t max_slots) {
  auto made = absl::WrapUnique(new PositionedModel(model, threads, max_slots));
  ASSIGN_OR_RETURN(made->transformer_, Transformer::Build(model, WeightChoice::kAsStored,
                                                          *SelectKernels(""), made->pool_));
  made->Truncate(0);
  return made;
}

void PositionedModel::Truncate(int32_t slots) {
  const int32_t partial = slots % kBlockTokens;
  for (int32_t b = slots / kBlockTokens; b < static_cast<int32_t>(blocks_.size()); ++b) {
    const bool keeps = b == slots / kBlockTokens && partial > 0;
    kv_.CopySlots(b, b, keeps ? partial : 0);
  }
}

absl::Span<const float> PositionedModel::Run(absl::Span<const TokenId> tokens, int32_t slot,
                                             int32_t position) {
  const FlushDenormals flush;
  Pass pass;
  pass.tokens.assign(tokens.begin(), tokens.end());
  pass.positions.resize(tokens.size());
  std::iota(pass.positions.begin(), pass.positions.end(), position);
  pass.sequences.push_back({0, tokens.size(), slot, blocks_});
  pass.logit_rows.push_back(tokens.size() - 1);
  transformer_->Forward(pass, kv_, logits_);
  return logits_;
}

void PositionedModel::Prefill(absl::Span<const TokenId> tokens) { Run(tokens, 0, 0); }

GreedyReply PositionedModel::Generate(const Feed& feed, int32_t slots,
                                      const GreedyOptions& options) {
  std::vector<TokenId> banned;
  if (options.ignore_end && options.end_token >= 0) banned.push_back(options.end_token);
  const absl::Time start = absl::Now();
  GreedyReply reply;
  std::vector<TokenId> next = feed.tokens;
  int32_t position = feed.first_position;
  while (true) {
    const auto logits = Run(next, slots, position);
    slots += static_cast<int32_t>(next.size());
    position += static_cast<int32_t>(next.size());
    const TokenId token = SampleToken(logits, {}, {}, banned, position);
    reply.total_ms = Milliseconds(start);
    if (reply.tokens.empty()) reply.first_token_ms = reply.total_ms;
    reply.ended = token == options.end_token;
    if (reply.ended) return reply;
    reply.tokens.push_back(token);
    if (static_cast<int32_t>(reply.tokens.size()) == options.max_tokens) return reply;
    next = {token};
  }
}

}  // namespace reprise::bench
