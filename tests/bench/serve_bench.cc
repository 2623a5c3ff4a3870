// Measures a running reprise-server over gRPC on loopback and prints one JSON
// object: time to first token cold against warm, decode time per token, what
// gRPC adds to the server's own total, and unary latency on an idle server.
//
//   serve_bench ADDRESS ttft PAIRS | overhead REQUESTS | idle REQUESTS GAP_SECONDS
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <random>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "client/format.h"

namespace reprise::client {
namespace {

using inference::v1::CachePolicy;
using inference::v1::Generation;
using inference::v1::GenerationSpec;

constexpr int kCachedTokens = 512;
constexpr int kSuffixTokens = 32;
constexpr int kDecodeTokens = 64;

[[noreturn]] void Fail(const absl::Status& status) {
  std::cerr << "serve_bench: " << status << std::endl;
  std::exit(1);
}

struct Quantiles {
  double p50, p99, max;
};

Quantiles Summarise(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) { return values[static_cast<size_t>(q * (values.size() - 1))]; };
  return {at(0.5), at(0.99), values.back()};
}

// Prompts of random ids that share their first kCachedTokens.
class PromptSource {
 public:
  explicit PromptSource(int vocabulary) : id_(100, vocabulary - 1), prefix_(kCachedTokens) {
    for (int32_t& id : prefix_) id = id_(random_);
  }

  GenerationSpec Spec(int suffix, int output_tokens, CachePolicy policy) {
    GenerationSpec spec;
    auto& ids = *spec.mutable_prompt()->mutable_token_ids()->mutable_ids();
    ids.Assign(prefix_.begin(), prefix_.end());
    for (int i = 0; i < suffix; ++i) ids.Add(id_(random_));
    spec.set_max_output_tokens(output_tokens);
    spec.mutable_sampling()->set_ignore_eos(true);
    spec.mutable_cache()->set_policy(policy);
    return spec;
  }

 private:
  std::mt19937 random_{20251211};
  std::uniform_int_distribution<int32_t> id_;
  std::vector<int32_t> prefix_;
};

Generation Run(Client& client, const GenerationSpec& spec) {
  auto reply = client.Generate(spec);
  if (!reply.ok()) Fail(reply.status());
  return *std::move(reply);
}

int Vocabulary(Client& client) {
  const auto model = client.GetModel();
  if (!model.ok()) Fail(model.status());
  return model->vocabulary_size();
}

void MeasureFirstToken(Client& client, int pairs) {
  PromptSource prompts(Vocabulary(client));
  Run(client, prompts.Spec(0, 0, inference::v1::CACHE_POLICY_FORCE));
  std::vector<double> cold, warm, ratio, decode;
  for (int i = 0; i < pairs; ++i) {
    GenerationSpec spec = prompts.Spec(kSuffixTokens, 1, inference::v1::CACHE_POLICY_BYPASS);
    const Generation first = Run(client, spec);
    spec.mutable_cache()->set_policy(inference::v1::CACHE_POLICY_FORCE);
    const Generation second = Run(client, spec);
    if (first.token_ids(0) != second.token_ids(0) ||
        second.reuse().host_token_count() != kCachedTokens) {
      Fail(absl::DataLossError("the warm reply differs or did not reuse 512 tokens from memory"));
    }
    cold.push_back(Milliseconds(first.timings().time_to_first_token()));
    warm.push_back(Milliseconds(second.timings().time_to_first_token()));
    ratio.push_back(cold.back() / warm.back());
    const Generation decoded =
        Run(client, prompts.Spec(0, kDecodeTokens, inference::v1::CACHE_POLICY_READ_ONLY));
    decode.push_back(Milliseconds(decoded.timings().decode()) / (kDecodeTokens - 1));
  }
  std::cout << absl::StrFormat(
      "{\"pairs\":%d,\"cold_ttft_ms\":%.2f,\"warm_ttft_ms\":%.2f,\"ratio\":%.2f,"
      "\"decode_ms_per_token\":%.3f}\n",
      pairs, Summarise(cold).p50, Summarise(warm).p50, Summarise(ratio).p50, Summarise(decode).p50);
}

void MeasureOverhead(Client& client, int requests) {
  PromptSource prompts(Vocabulary(client));
  std::vector<double> added;
  for (int i = 0; i < requests; ++i) {
    const GenerationSpec spec = prompts.Spec(0, 2, inference::v1::CACHE_POLICY_READ_ONLY);
    const absl::Time start = absl::Now();
    const Generation reply = Run(client, spec);
    added.push_back(absl::ToDoubleMilliseconds(absl::Now() - start) -
                    Milliseconds(reply.timings().total()));
  }
  const Quantiles q = Summarise(added);
  std::cout << absl::StrFormat(
      "{\"requests\":%d,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n", requests, q.p50, q.p99,
      q.max);
}

void MeasureIdle(Client& client, int requests, double gap_seconds) {
  inference::v1::Prompt prompt;
  prompt.set_text("What is the capital of France?");
  std::mt19937 random(7);
  std::uniform_real_distribution<double> jitter(0.9, 1.1);
  if (const auto first = client.CountTokens(prompt); !first.ok()) Fail(first.status());
  std::vector<double> latency;
  for (int i = 0; i < requests; ++i) {
    absl::SleepFor(absl::Seconds(gap_seconds * jitter(random)));
    const absl::Time start = absl::Now();
    const auto reply = client.CountTokens(prompt);
    latency.push_back(absl::ToDoubleMilliseconds(absl::Now() - start));
    if (!reply.ok()) Fail(reply.status());
  }
  const Quantiles q = Summarise(latency);
  std::cout << absl::StrFormat(
      "{\"requests\":%d,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f}\n", requests, q.p50, q.p99,
      q.max);
}

int Main(int argc, char** argv) {
  const std::string mode = argc > 2 ? argv[2] : "";
  const int count = argc > 3 ? std::atoi(argv[3]) : 0;
  if (count < 1 || (mode == "idle" && argc < 5)) {
    std::cerr << "usage: serve_bench ADDRESS ttft PAIRS | overhead REQUESTS | "
                 "idle REQUESTS GAP_SECONDS\n";
    return 2;
  }
  Client client({.address = argv[1]});
  if (mode == "ttft") {
    MeasureFirstToken(client, count);
  } else if (mode == "overhead") {
    MeasureOverhead(client, count);
  } else if (mode == "idle") {
    MeasureIdle(client, count, std::atof(argv[4]));
  } else {
    std::cerr << "serve_bench: unknown mode " << mode << "\n";
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace reprise::client

int main(int argc, char** argv) { return reprise::client::Main(argc, argv); }
