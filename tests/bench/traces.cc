#include "tests/bench/traces.h"

#include <algorithm>

#include "client/load/shapes.h"

namespace reprise::bench {
namespace {

using client::load::Random;
using client::load::Zipf;

constexpr int kVocabulary = 50000;

std::vector<TokenId> Ids(Random& random, double count) {
  return random.Ids(static_cast<int>(count), kVocabulary);
}

void AddSession(double start, const std::vector<TokenId>& system, Random& random,
                const TraceOptions& options, std::vector<TraceRequest>& trace) {
  std::vector<TokenId> text = system;
  const int turns = client::load::ChatTurns(random);
  for (int turn = 0; turn < turns; ++turn) {
    const std::vector<TokenId> asked = Ids(random, client::load::ChatUserTokens(random));
    text.insert(text.end(), asked.begin(), asked.end());
    std::vector<TokenId> reply = Ids(random, client::load::ChatReplyTokens(random));
    if (text.size() + reply.size() > static_cast<size_t>(options.context_length)) return;
    trace.push_back({start, text, reply});
    text.insert(text.end(), reply.begin(), reply.end());
    start += client::load::ChatThinkSeconds(random);
  }
}

}  // namespace

std::vector<TraceRequest> ChatTrace(const TraceOptions& options) {
  Random random(options.seed);
  std::vector<std::vector<TokenId>> systems;
  for (int i = 0; i < client::load::kChatSystemPrompts; ++i) {
    systems.push_back(Ids(random, client::load::ChatSystemTokens(random)));
  }
  const Zipf popularity(client::load::kChatSystemPrompts, client::load::kChatSystemExponent);
  std::vector<TraceRequest> trace;
  double start = 0;
  while (trace.size() < static_cast<size_t>(options.requests)) {
    start += random.Exponential(1 / options.sessions_per_second);
    AddSession(start, systems[popularity.Draw(random)], random, options, trace);
  }
  const auto earlier = [](const TraceRequest& a, const TraceRequest& b) {
    return a.seconds < b.seconds;
  };
  std::stable_sort(trace.begin(), trace.end(), earlier);
  return trace;
}

std::vector<TraceRequest> ApiTrace(const TraceOptions& options) {
  constexpr double kCv = client::load::kApiArrivalCv;
  constexpr double kShape = 1 / (kCv * kCv);
  Random random(options.seed);
  std::vector<std::vector<TokenId>> templates;
  for (int i = 0; i < client::load::kApiTemplates; ++i) {
    templates.push_back(Ids(random, client::load::ApiTemplateTokens(random)));
  }
  const Zipf popularity(client::load::kApiTemplates, client::load::kApiTemplateExponent);
  std::vector<TraceRequest> trace;
  double now = 0;
  for (int i = 0; i < options.requests; ++i) {
    now += random.Gamma(kShape) / kShape / options.calls_per_second;
    TraceRequest request{now, templates[popularity.Draw(random)], {}};
    const std::vector<TokenId> own = Ids(random, client::load::ApiOwnTokens(random));
    request.prompt.insert(request.prompt.end(), own.begin(), own.end());
    request.output = Ids(random, client::load::ApiReplyTokens(random));
    trace.push_back(std::move(request));
  }
  return trace;
}

}  // namespace reprise::bench
