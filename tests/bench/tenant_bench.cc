// What one tenant can tell of another by timing, and a tenant that floods its quota, against a
// running reprise-server. Prints one JSON object.
//
//   tenant_bench ADDRESS attack VICTIM_TOKEN_FILE ATTACKER_TOKEN_FILE TRIALS
//   tenant_bench ADDRESS flood TOKEN_FILE REQUESTS THREADS
//
// attack: in each trial the victim sends a prompt, in one half of them (by a coin) the very one
// that the attacker sends next and times. A classifier that calls the faster ones cached is
// judged by its AUC, the probability that a cached one was faster than one that was not,
// and by the accuracy of a threshold chosen on the other fold (twofold cross-validation).
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <random>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/client.h"

namespace reprise::client {
namespace {

using inference::v1::GenerationSpec;

constexpr int kPromptTokens = 128;
constexpr int kVocabulary = 40000;  // ids below it are ordinary tokens of every model tried

[[noreturn]] void Fail(const std::string& what) {
  std::cerr << "tenant_bench: " << what << std::endl;
  std::exit(1);
}

Client Connect(const std::string& address, const std::string& token_file) {
  ClientOptions options;
  options.address = address;
  std::ifstream(token_file) >> options.token;
  if (options.token.empty()) Fail(token_file + ": no token");
  return Client(options);
}

// `first` is its first token: prompts of different ones share nothing, not even by chance.
GenerationSpec RandomPrompt(std::mt19937& random, int32_t first) {
  std::uniform_int_distribution<int32_t> id(100, kVocabulary);
  GenerationSpec spec;
  spec.mutable_prompt()->mutable_token_ids()->add_ids(first);
  for (int i = 1; i < kPromptTokens; ++i)
    spec.mutable_prompt()->mutable_token_ids()->add_ids(id(random));
  spec.set_max_output_tokens(1);
  spec.mutable_sampling()->set_ignore_eos(true);
  return spec;
}

struct Trial {
  bool cached = false;  // the victim had sent it
  double milliseconds = 0;
  int reused = 0;
};

Trial Time(Client& attacker, const GenerationSpec& spec, bool cached) {
  const absl::Time start = absl::Now();
  const auto reply = attacker.Generate(spec);
  if (!reply.ok()) Fail(std::string(reply.status().message()));
  return {cached, absl::ToDoubleMilliseconds(absl::Now() - start),
          reply->usage().cached_token_count()};
}

double Auc(const std::vector<Trial>& trials) {
  double wins = 0, pairs = 0;
  for (const Trial& hit : trials) {
    for (const Trial& miss : trials) {
      if (!hit.cached || miss.cached) continue;
      ++pairs;
      wins += hit.milliseconds < miss.milliseconds    ? 1
              : hit.milliseconds == miss.milliseconds ? 0.5
                                                      : 0;
    }
  }
  return pairs > 0 ? wins / pairs : 0.5;
}

double Accuracy(const std::vector<Trial>& trials, size_t fold, double threshold) {
  double right = 0, all = 0;
  for (size_t i = fold; i < trials.size(); i += 2, ++all) {
    right += trials[i].cached == (trials[i].milliseconds < threshold) ? 1 : 0;
  }
  return all > 0 ? right / all : 0;
}

double CrossValidated(const std::vector<Trial>& trials) {
  double sum = 0;
  for (const size_t fold : {size_t{0}, size_t{1}}) {
    double best = 0, threshold = 0;
    for (const Trial& candidate : trials) {
      const double accuracy = Accuracy(trials, 1 - fold, candidate.milliseconds);
      if (accuracy > best) threshold = candidate.milliseconds;
      best = std::max(best, accuracy);
    }
    sum += Accuracy(trials, fold, threshold) / 2;
  }
  return sum;
}

double Median(const std::vector<Trial>& trials, bool cached) {
  std::vector<double> values;
  for (const Trial& trial : trials) {
    if (trial.cached == cached) values.push_back(trial.milliseconds);
  }
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

// The first prompt begins with the token `first`, each later one with another.
void Attack(Client victim, Client attacker, int count, int32_t first) {
  std::mt19937 random(8);
  std::vector<Trial> trials;
  int reused = 0;
  Time(attacker, RandomPrompt(random, first++), false);  // connects
  for (int i = 0; i < count; ++i) {
    const GenerationSpec spec = RandomPrompt(random, first);
    const GenerationSpec other = RandomPrompt(random, first + 1);
    first += 2;
    const bool cached = (random() & 1) != 0;
    const auto sent = victim.Generate(cached ? spec : other);
    if (!sent.ok()) Fail(std::string(sent.status().message()));
    trials.push_back(Time(attacker, spec, cached));
    reused += trials.back().reused;
  }
  std::cout << absl::StrFormat(
                   "{\"trials\": %d, \"auc\": %.4f, \"cross_validated_accuracy\": %.4f, "
                   "\"reused_tokens\": %d, \"cached_p50_ms\": %.2f, \"not_cached_p50_ms\": %.2f}",
                   count, Auc(trials), CrossValidated(trials), reused, Median(trials, true),
                   Median(trials, false))
            << std::endl;
}

void Flood(const std::string& address, const std::string& token_file, int requests, int threads) {
  std::atomic<int> ok{0}, failed{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < threads; ++t) {
    callers.emplace_back([&, t] {
      Client client = Connect(address, token_file);
      std::mt19937 random(static_cast<uint32_t>(t));
      for (int i = t; i < requests; i += threads) {
        GenerationSpec spec = RandomPrompt(random, 100 + i);
        spec.set_max_output_tokens(8);
        client.Generate(spec).ok() ? ++ok : ++failed;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  std::cout << absl::StrFormat("{\"ok\": %d, \"failed\": %d}", ok.load(), failed.load())
            << std::endl;
}

}  // namespace
}  // namespace reprise::client

int main(int argc, char** argv) {
  using namespace reprise::client;
  if (argc != 6) Fail("see the head of tenant_bench.cc");
  const std::string address = argv[1], mode = argv[2];
  if (mode == "attack") {
    Attack(Connect(address, argv[3]), Connect(address, argv[4]), std::atoi(argv[5]),
           std::string(argv[3]) == argv[4] ? 1000 : kVocabulary / 2);
  } else {
    Flood(address, argv[3], std::atoi(argv[4]), std::atoi(argv[5]));
  }
  return 0;
}
