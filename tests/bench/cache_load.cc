// Puts a mixed load on a reprise-server and prints what came back, one line an event, until
// the server goes away; or asks it a list of prompts.
//
//   cache_load ADDRESS ADMIN_ADDRESS load SEED
//     conversations that share beginnings, turn after turn, under all cache policies, and
//     prompts warmed by the operators' call
//   cache_load ADDRESS ADMIN_ADDRESS ask POLICY OUTPUT_TOKENS
//     the prompts of standard input, ids with commas between, one a line
//
//   reply CACHES CACHED DISK SECONDS PROMPT REPLY  CACHES: 1 if the request caches, else 0
//   warmed PROMPT       WarmCache returned
//   durable REPLIES     what the first so many reply lines cached is durable
//   error CODE MESSAGE  a call that failed
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <iostream>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/client.h"

namespace reprise::client {
namespace {

using inference::v1::CachePolicy;
using inference::v1::GenerationSpec;
using Ids = std::vector<int32_t>;

constexpr int kSpeakers = 3;
constexpr int kVocabulary = 1200;  // of the model under load, at least
constexpr int kBeginnings = 5;     // that conversations share
constexpr int kTurns = 4;          // of one conversation, at most
constexpr int kMaxPauseMs = 30;

GenerationSpec MakeSpec(const Ids& prompt, CachePolicy policy, int output_tokens) {
  GenerationSpec spec;
  for (const int32_t id : prompt) spec.mutable_prompt()->mutable_token_ids()->add_ids(id);
  spec.mutable_cache()->set_policy(policy);
  spec.mutable_sampling()->set_temperature(1.0f);  // so that the reply follows from all the KV
  spec.mutable_sampling()->set_seed(7);
  spec.mutable_sampling()->set_ignore_eos(true);
  spec.set_max_output_tokens(output_tokens);
  return spec;
}

Ids RandomIds(uint32_t seed, int count) {
  std::mt19937 random(seed);
  Ids ids;
  for (int i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(random() % kVocabulary));
  return ids;
}

// Prints events in the order in which they happened.
class Printer {
 public:
  void Reply(const GenerationSpec& spec, const inference::v1::Generation& reply,
             absl::Duration took) {
    const CachePolicy policy = spec.cache().policy();
    const bool caches =
        policy == inference::v1::CACHE_POLICY_USE || policy == inference::v1::CACHE_POLICY_FORCE;
    const std::lock_guard lock(mutex_);
    ++replies_;
    std::cout << "reply " << caches << " " << reply.usage().cached_token_count() << " "
              << reply.reuse().disk_token_count() << " " << absl::ToDoubleSeconds(took) << " "
              << absl::StrJoin(spec.prompt().token_ids().ids(), ",") << " "
              << absl::StrJoin(reply.token_ids(), ",") << std::endl;
  }
  void Line(const std::string& line) {
    const std::lock_guard lock(mutex_);
    std::cout << line << std::endl;
  }
  void Error(const absl::Status& status) {
    Line(absl::StrCat("error ", absl::StatusCodeToString(status.code()), " ",
                      std::string(status.message())));
  }
  int replies() {
    const std::lock_guard lock(mutex_);
    return replies_;
  }

 private:
  std::mutex mutex_;
  int replies_ = 0;
};

absl::Status Ask(Client& client, const GenerationSpec& spec, Printer& printer, Ids* said) {
  const absl::Time start = absl::Now();
  const auto reply = client.Generate(spec);
  if (!reply.ok()) {
    printer.Error(reply.status());
    return reply.status();
  }
  printer.Reply(spec, *reply, absl::Now() - start);
  if (said != nullptr) said->assign(reply->token_ids().begin(), reply->token_ids().end());
  return absl::OkStatus();
}

CachePolicy ChoosePolicy(std::mt19937& random) {
  switch (random() % 10) {
    case 0:
      return inference::v1::CACHE_POLICY_BYPASS;
    case 1:
      return inference::v1::CACHE_POLICY_READ_ONLY;
    case 2:
    case 3:
    case 4:
    case 5:
      return inference::v1::CACHE_POLICY_USE;
    default:
      return inference::v1::CACHE_POLICY_FORCE;
  }
}

// Conversations, until a call fails.
void Speak(const ClientOptions& options, uint32_t seed, Printer& printer) {
  Client client(options);
  std::mt19937 random(seed);
  while (true) {
    Ids prompt = RandomIds(random() % kBeginnings, 100);  // 100: ends within a segment
    const auto turns = 1 + random() % kTurns;
    for (uint32_t turn = 0; turn < turns; ++turn) {
      const Ids asked = RandomIds(random(), 1 + static_cast<int>(random() % 150));
      prompt.insert(prompt.end(), asked.begin(), asked.end());
      const auto output = static_cast<int>(1 + random() % 12);
      Ids said;
      const GenerationSpec spec = MakeSpec(prompt, ChoosePolicy(random), output);
      if (!Ask(client, spec, printer, &said).ok()) return;
      prompt.insert(prompt.end(), said.begin(), said.end());
      absl::SleepFor(absl::Milliseconds(random() % kMaxPauseMs));
    }
  }
}

// Tells what became durable while `done` is false: all that replies before a moment at
// which nothing waited to be written.
void Watch(const ClientOptions& options, const std::atomic<bool>& done, Printer& printer) {
  Client client(options);
  while (!done) {
    const int replies = printer.replies();
    const auto stats = client.GetCacheStats();
    if (!stats.ok()) return;
    if (stats->disk().enabled() && stats->disk().pending_segment_count() == 0) {
      printer.Line(absl::StrCat("durable ", replies));
    }
    absl::SleepFor(absl::Milliseconds(10));
  }
}

void Warm(const ClientOptions& options, uint32_t seed, Printer& printer) {
  const auto stub = admin::v1::CacheAdminService::NewStub(
      grpc::CreateChannel(options.admin_address, grpc::InsecureChannelCredentials()));
  std::mt19937 random(seed);
  while (true) {
    const Ids prompt = RandomIds(random(), 20 + static_cast<int>(random() % 200));
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + options.timeout));
    admin::v1::WarmCacheRequest request;
    auto& ids = *request.add_prompts()->mutable_token_ids();
    for (const int32_t id : prompt) ids.add_ids(id);
    admin::v1::WarmCacheResponse response;
    if (!stub->WarmCache(&context, request, &response).ok()) return;
    printer.Line(absl::StrCat("warmed ", absl::StrJoin(prompt, ",")));
    absl::SleepFor(absl::Milliseconds(random() % (4 * kMaxPauseMs)));
  }
}

void Load(const ClientOptions& options, uint32_t seed) {
  Printer printer;
  std::atomic<bool> done{false};
  std::vector<std::thread> speakers;
  for (uint32_t i = 0; i < kSpeakers; ++i) {
    speakers.emplace_back(Speak, options, seed * 100 + i, std::ref(printer));
  }
  std::thread watcher(Watch, options, std::cref(done), std::ref(printer));
  std::thread warmer(Warm, options, seed * 100 + kSpeakers, std::ref(printer));
  for (std::thread& speaker : speakers) speaker.join();
  done = true;
  watcher.join();
  warmer.join();
}

int AskAll(const ClientOptions& options, const std::string& policy_name, int output_tokens) {
  CachePolicy policy;
  if (!inference::v1::CachePolicy_Parse("CACHE_POLICY_" + policy_name, &policy)) return 2;
  Client client(options);
  Printer printer;
  int failed = 0;
  for (std::string line; std::getline(std::cin, line);) {
    Ids prompt;
    for (const absl::string_view word : absl::StrSplit(line, ',')) {
      int32_t id = 0;
      if (!absl::SimpleAtoi(word, &id)) return 2;
      prompt.push_back(id);
    }
    failed += !Ask(client, MakeSpec(prompt, policy, output_tokens), printer, nullptr).ok();
  }
  return failed == 0 ? 0 : 1;
}

int Run(const std::vector<std::string>& words) {
  const bool loads = words.size() == 4 && words[2] == "load";
  const bool asks = words.size() == 5 && words[2] == "ask";
  int number = 0;
  if ((!loads && !asks) || !absl::SimpleAtoi(words.back(), &number)) {
    std::cerr << "cache_load ADDRESS ADMIN_ADDRESS load SEED | ask POLICY OUTPUT_TOKENS"
              << std::endl;
    return 2;
  }
  const ClientOptions options{words[0], words[1], absl::Minutes(1)};
  if (asks) return AskAll(options, words[3], number);
  Load(options, static_cast<uint32_t>(number));
  return 0;
}

}  // namespace
}  // namespace reprise::client

int main(int argc, char** argv) {
  return reprise::client::Run(std::vector<std::string>(argv + 1, argv + argc));
}
