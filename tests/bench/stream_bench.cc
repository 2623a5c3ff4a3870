// Puts concurrent streams on a running reprise-server over gRPC on loopback and prints one
// JSON object.
//
//   stream_bench ADDRESS stall STREAMS PREFILLS
//     gaps between the tokens of decoding streams, alone and while prompts of 1000 tokens are
//     computed beside them
//   stream_bench ADDRESS cancel REQUESTS
//     streams cancelled at random moments, many at a time
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <iostream>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "reprise/inference/v1/generation_service.grpc.pb.h"

namespace reprise::client {
namespace {

using inference::v1::CachePolicy;
using inference::v1::GenerationSpec;

constexpr int kLongPrompt = 1000;
constexpr int kShortPrompt = 32;
constexpr int kStreamTokens = 6000;  // more than come beside the prefills
constexpr int kMinGaps = 200;        // of each stream alone
constexpr int kCancelsAtOnce = 24;
constexpr int kMaxCancelledPrompt = 400;
constexpr double kMeanCancelMs = 80;
constexpr int kDecodingShare = 8;  // one in so many is cancelled while it decodes

[[noreturn]] void Fail(const absl::Status& status) {
  std::cerr << "stream_bench: " << status << std::endl;
  std::exit(1);
}

int Vocabulary(const std::string& address) {
  Client client({.address = address});
  const auto model = client.GetModel();
  if (!model.ok()) Fail(model.status());
  return model->vocabulary_size();
}

GenerationSpec RandomSpec(std::mt19937& random, int vocabulary, int tokens) {
  std::uniform_int_distribution<int32_t> id(100, vocabulary - 1);
  GenerationSpec spec;
  for (int i = 0; i < tokens; ++i) spec.mutable_prompt()->mutable_token_ids()->add_ids(id(random));
  spec.mutable_sampling()->set_ignore_eos(true);
  return spec;
}

// When a token of any stream came, in its own stream's order.
class Arrivals {
 public:
  explicit Arrivals(int streams) : times_(streams) {}

  void Add(int stream) {
    const std::lock_guard lock(mutex_);
    times_[stream].push_back(absl::Now());
  }
  // Of the stream that has fewest.
  size_t Fewest() {
    const std::lock_guard lock(mutex_);
    const auto fewest =
        std::min_element(times_.begin(), times_.end(),
                         [](const auto& a, const auto& b) { return a.size() < b.size(); });
    return fewest->size();
  }
  // Milliseconds of the gaps that overlap [from, to].
  std::vector<double> Gaps(absl::Time from, absl::Time to) {
    const std::lock_guard lock(mutex_);
    std::vector<double> gaps;
    for (const auto& times : times_) {
      for (size_t i = 1; i < times.size(); ++i) {
        if (times[i] < from || times[i - 1] > to) continue;
        gaps.push_back(absl::ToDoubleMilliseconds(times[i] - times[i - 1]));
      }
    }
    std::sort(gaps.begin(), gaps.end());
    return gaps;
  }

 private:
  std::mutex mutex_;
  std::vector<std::vector<absl::Time>> times_;  // by stream
};

double Quantile(const std::vector<double>& sorted, double q) {
  if (sorted.empty()) Fail(absl::FailedPreconditionError("no gap lies beside a prefill"));
  return sorted[static_cast<size_t>(std::ceil(q * static_cast<double>(sorted.size() - 1)))];
}

// Streams until `context` is cancelled; any other end ends the program.
void Decode(const std::string& address, GenerationSpec spec, grpc::ClientContext& context,
            const std::function<void()>& on_token) {
  inference::v1::StreamGenerateRequest request;
  *request.mutable_spec() = std::move(spec);
  request.mutable_spec()->set_max_output_tokens(kStreamTokens);
  request.mutable_spec()->mutable_cache()->set_policy(inference::v1::CACHE_POLICY_BYPASS);
  const auto stub = inference::v1::GenerationService::NewStub(
      grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  const auto reader = stub->StreamGenerate(&context, request);
  inference::v1::StreamGenerateResponse response;
  while (reader->Read(&response)) {
    if (response.chunk().token_ids_size() > 0) on_token();
  }
  const grpc::Status status = reader->Finish();
  if (status.error_code() != grpc::StatusCode::CANCELLED) {
    Fail(absl::FailedPreconditionError("a stream ended before the prefills beside it did: " +
                                       status.error_message()));
  }
}

void MeasureStall(const std::string& address, int streams, int prefills) {
  const int vocabulary = Vocabulary(address);
  std::mt19937 random(1);
  Arrivals arrivals(streams);
  std::vector<grpc::ClientContext> contexts(streams);
  std::vector<std::thread> threads;
  for (int i = 0; i < streams; ++i) {
    threads.emplace_back(Decode, address, RandomSpec(random, vocabulary, kShortPrompt),
                         std::ref(contexts[i]), [&arrivals, i] { arrivals.Add(i); });
  }
  while (arrivals.Fewest() < 2) absl::SleepFor(absl::Milliseconds(1));
  const absl::Time alone = absl::Now();
  const size_t until = arrivals.Fewest() + kMinGaps;
  while (arrivals.Fewest() < until) absl::SleepFor(absl::Milliseconds(1));
  const absl::Time beside = absl::Now();
  Client client({.address = address});
  for (int i = 0; i < prefills; ++i) {
    GenerationSpec spec = RandomSpec(random, vocabulary, kLongPrompt);
    spec.set_max_output_tokens(1);
    spec.mutable_cache()->set_policy(inference::v1::CACHE_POLICY_BYPASS);
    if (const auto reply = client.Generate(spec); !reply.ok()) Fail(reply.status());
  }
  const absl::Time end = absl::Now();
  for (grpc::ClientContext& context : contexts) context.TryCancel();
  for (std::thread& thread : threads) thread.join();
  const std::vector<double> before = arrivals.Gaps(alone, beside);
  const std::vector<double> during = arrivals.Gaps(beside, end);
  std::cout << absl::StrFormat(
      "{\"streams\":%d,\"prefills\":%d,\"prefill_seconds\":%.2f,\"alone_gaps\":%d,"
      "\"alone_p50_ms\":%.3f,\"alone_p99_ms\":%.3f,\"beside_gaps\":%d,\"beside_p50_ms\":%.3f,"
      "\"beside_p99_ms\":%.3f}\n",
      streams, prefills, absl::ToDoubleSeconds(end - beside), before.size(), Quantile(before, 0.5),
      Quantile(before, 0.99), during.size(), Quantile(during, 0.5), Quantile(during, 0.99));
}

struct Outcomes {
  std::atomic<int> cancelled{0}, decoding{0}, finished{0}, other{0};  // decoding: of cancelled
};

// One stream, cancelled after a random time or, since a busy server has most others still in
// its queue by then, after a random number of replies.
void CancelOne(inference::v1::GenerationService::Stub& stub, std::mt19937& random, int vocabulary,
               Outcomes& outcomes) {
  std::uniform_int_distribution<int> length(16, kMaxCancelledPrompt), tokens(1, 100), policy(0, 3),
      share(1, kDecodingShare), replies(1, 20);
  std::exponential_distribution<double> delay(1 / kMeanCancelMs);
  constexpr CachePolicy kPolicies[] = {
      inference::v1::CACHE_POLICY_USE, inference::v1::CACHE_POLICY_BYPASS,
      inference::v1::CACHE_POLICY_READ_ONLY, inference::v1::CACHE_POLICY_FORCE};
  inference::v1::StreamGenerateRequest request;
  *request.mutable_spec() = RandomSpec(random, vocabulary, length(random));
  request.mutable_spec()->set_max_output_tokens(tokens(random));
  request.mutable_spec()->mutable_cache()->set_policy(kPolicies[policy(random)]);
  grpc::ClientContext context;
  const auto reader = stub.StreamGenerate(&context, request);
  inference::v1::StreamGenerateResponse response;
  bool decoding = share(random) == 1;
  if (decoding) {
    for (int left = replies(random); left > 0 && decoding; --left)
      decoding = reader->Read(&response);
  } else {
    absl::SleepFor(absl::Milliseconds(delay(random)));
  }
  context.TryCancel();
  while (reader->Read(&response)) {
  }
  const grpc::Status status = reader->Finish();
  if (status.error_code() == grpc::StatusCode::CANCELLED) {
    ++outcomes.cancelled;
    outcomes.decoding += decoding;
  } else if (status.ok()) {
    ++outcomes.finished;
  } else {
    ++outcomes.other;
    std::cerr << "stream_bench: " << status.error_message() << "\n";
  }
}

void CancelMany(const std::string& address, int requests) {
  const int vocabulary = Vocabulary(address);
  const auto stub = inference::v1::GenerationService::NewStub(
      grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  Outcomes outcomes;
  std::atomic<int> next{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kCancelsAtOnce; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937 random(thread);
      while (next++ < requests) CancelOne(*stub, random, vocabulary, outcomes);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::cout << absl::StrFormat(
      "{\"requests\":%d,\"cancelled\":%d,\"decoding\":%d,\"finished\":%d,\"other\":%d}\n", requests,
      outcomes.cancelled.load(), outcomes.decoding.load(), outcomes.finished.load(),
      outcomes.other.load());
}

int Main(int argc, char** argv) {
  const std::string mode = argc > 2 ? argv[2] : "";
  int first = 0, second = 0;
  if (mode == "stall" && argc == 5 && absl::SimpleAtoi(argv[3], &first) &&
      absl::SimpleAtoi(argv[4], &second) && first > 0 && second > 0) {
    MeasureStall(argv[1], first, second);
  } else if (mode == "cancel" && argc == 4 && absl::SimpleAtoi(argv[3], &first) && first > 0) {
    CancelMany(argv[1], first);
  } else {
    std::cerr << "usage: stream_bench ADDRESS stall STREAMS PREFILLS | cancel REQUESTS\n";
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace reprise::client

int main(int argc, char** argv) { return reprise::client::Main(argc, argv); }
