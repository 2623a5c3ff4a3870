#include "core/model/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"

namespace reprise {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();

struct Choice {
  TokenId id;
  float logit;
  double probability = 0;
};

// Likeliest first; equal logits by lower id, so the order is total.
bool Likelier(const Choice& a, const Choice& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

void Penalize(std::vector<float>& logits, const SamplingOptions& options,
              const SamplingHistory& history) {
  if (options.repetition_penalty != 1.0f) {
    absl::flat_hash_set<TokenId> seen(history.prompt.begin(), history.prompt.end());
    seen.insert(history.generated.begin(), history.generated.end());
    for (const TokenId id : seen) {
      float& logit = logits[id];
      logit = logit > 0 ? logit / options.repetition_penalty : logit * options.repetition_penalty;
    }
  }
  if (options.presence_penalty == 0.0f && options.frequency_penalty == 0.0f) return;
  absl::flat_hash_map<TokenId, int> counts;
  for (const TokenId id : history.generated) ++counts[id];
  for (const auto& [id, count] : counts) {
    logits[id] -= options.presence_penalty + options.frequency_penalty * static_cast<float>(count);
  }
}

// Makes every score a finite number: comparisons with NaN would depend on where it stands.
void MakeFinite(std::vector<float>& scores) {
  for (float& score : scores) {
    score = std::isnan(score) ? kLowest : std::clamp(score, kLowest, -kLowest);
  }
}

TokenId ArgMax(absl::Span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Probabilities at `temperature` of choices sorted likeliest first.
void FillProbabilities(std::vector<Choice>& choices, float temperature) {
  double sum = 0;
  for (Choice& choice : choices) {
    choice.probability =
        std::exp((double{choice.logit} - double{choices.front().logit}) / double{temperature});
    sum += choice.probability;
  }
  for (Choice& choice : choices) choice.probability /= sum;
}

// How many of the sorted choices stay under top_p and min_p; at least one.
size_t CountKept(const std::vector<Choice>& choices, const SamplingOptions& options) {
  double mass = 0;
  for (size_t i = 0; i < choices.size(); ++i) {
    const bool too_rare = choices[i].probability < options.min_p * choices[0].probability;
    if (i > 0 && (too_rare || mass >= options.top_p)) return i;
    mass += choices[i].probability;
  }
  return choices.size();
}

}  // namespace

double CounterUniform(uint64_t seed, int64_t position) {
  uint64_t z = seed + 0x9e3779b97f4a7c15ull * (static_cast<uint64_t>(position) + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-53;
}

TokenId SampleToken(absl::Span<const float> logits, const SamplingOptions& options,
                    const SamplingHistory& history, absl::Span<const TokenId> banned,
                    int64_t position) {
  std::vector<float> scores(logits.begin(), logits.end());
  Penalize(scores, options, history);
  MakeFinite(scores);
  for (const TokenId id : banned) {
    if (id < 0 || static_cast<size_t>(id) >= scores.size()) continue;
    scores[id] = -std::numeric_limits<float>::infinity();
  }
  if (options.temperature <= 0.0f) return ArgMax(scores);

  std::vector<Choice> choices;
  choices.reserve(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] > kLowest) choices.push_back({static_cast<TokenId>(i), scores[i]});
  }
  if (choices.empty()) return ArgMax(scores);
  const bool cut = options.top_k > 0 && static_cast<size_t>(options.top_k) < choices.size();
  const size_t count = cut ? static_cast<size_t>(options.top_k) : choices.size();
  std::partial_sort(choices.begin(), choices.begin() + static_cast<int64_t>(count), choices.end(),
                    Likelier);
  choices.resize(count);
  FillProbabilities(choices, options.temperature);
  choices.resize(CountKept(choices, options));

  double kept = 0;
  for (const Choice& choice : choices) kept += choice.probability;
  double left = CounterUniform(options.seed, position) * kept;
  for (const Choice& choice : choices) {
    left -= choice.probability;
    if (left < 0) return choice.id;
  }
  return choices.back().id;
}

}  // namespace reprise
