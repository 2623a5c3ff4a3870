#include "client/paper/paper_run.h"

#include <algorithm>
#include <atomic>
#include <iostream>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/csv.h"
#include "client/format.h"
#include "core/base/ids.h"
#include "core/base/status_macros.h"

namespace reprise::client {
namespace {

using inference::v1::Generation;
using inference::v1::GenerationSpec;

constexpr absl::Duration kIndexLimit = absl::Minutes(2);
constexpr int32_t kFillerId = 1;
constexpr float kItself = 0.999f;  // least similarity of a prompt with itself

enum class Arm { kCold, kMemory, kRetrieved };
constexpr Arm kArms[] = {Arm::kCold, Arm::kMemory, Arm::kRetrieved};
constexpr const char* kArmNames[] = {"B", "P1", "P2"};

struct Replies {
  const char* ends;  // as PaperRow
  int tokens;
  bool ignore_eos() const { return std::string(ends) == "length"; }
};

GenerationSpec SpecFor(const PaperPrompt& prompt, Arm arm, const Replies& replies) {
  GenerationSpec spec;
  *spec.mutable_prompt() = prompt.prompt;
  spec.set_max_output_tokens(replies.tokens);
  spec.mutable_sampling()->set_ignore_eos(replies.ignore_eos());
  spec.mutable_cache()->set_policy(arm == Arm::kCold ? inference::v1::CACHE_POLICY_BYPASS
                                                     : inference::v1::CACHE_POLICY_FORCE);
  spec.mutable_cache()->set_retrieval_mode(arm == Arm::kRetrieved
                                               ? inference::v1::RETRIEVAL_MODE_SEMANTIC
                                               : inference::v1::RETRIEVAL_MODE_PREFIX);
  return spec;
}

PaperTimes TimesOf(const Generation& reply, absl::Duration client) {
  const auto& t = reply.timings();
  PaperTimes times;
  times.client = absl::ToDoubleMilliseconds(client);
  times.total = Milliseconds(t.total());
  times.first_token = Milliseconds(t.time_to_first_token());
  times.tokenize = Milliseconds(t.tokenize());
  times.queue = Milliseconds(t.queue());
  times.lookup = Milliseconds(t.lookup());
  times.load = Milliseconds(t.load());
  times.actual_load = Milliseconds(reply.reuse().actual_load());
  times.prefill = Milliseconds(t.prefill());
  times.decode = Milliseconds(t.decode());
  return times;
}

class Experiment {
 public:
  Experiment(Client& client, PaperReport& report)
      : client_(client), context_length_(report.model.context_length()), rows_(report.rows) {}

  // One round that is not recorded, then `rounds`.
  absl::Status RunRounds(const PaperSet& set, const Replies& replies, int rounds) {
    for (int round = -1; round < rounds; ++round) {
      std::cerr << "\r" << set.tests.front().set << ", " << replies.tokens << " tokens ("
                << replies.ends << "): round " << round + 1 << " of " << rounds << std::flush;
      for (size_t i = 0; i < std::size(kArms); ++i) {
        const Arm arm = kArms[(i + round + 1) % std::size(kArms)];
        RETURN_IF_ERROR(RunArm(set, arm, replies, round));
      }
    }
    std::cerr << std::endl;
    return absl::OkStatus();
  }

  // Each test once, in B and P1, `concurrency` of them at a time.
  absl::Status RunOnce(const PaperSet& set, const Replies& replies, int concurrency) {
    RETURN_IF_ERROR(WarmOnly(set));
    std::atomic<size_t> next{0};
    absl::Status failed;
    std::vector<std::thread> threads;
    threads.reserve(static_cast<size_t>(concurrency));
    for (int i = 0; i < concurrency; ++i) {
      threads.emplace_back([&] {
        for (size_t test; (test = next++) < set.tests.size();) {
          for (const Arm arm : {Arm::kCold, Arm::kMemory}) {
            const absl::Status status = Ask(set, test, {arm, replies, 0});
            if (status.ok()) continue;
            next = set.tests.size();
            const std::lock_guard<std::mutex> lock(mutex_);
            failed = status;
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return failed;
  }

 private:
  struct Request {
    Arm arm;
    const Replies& replies;
    int round;
  };

  absl::Status RunArm(const PaperSet& set, Arm arm, const Replies& replies, int round) {
    if (arm != Arm::kCold) RETURN_IF_ERROR(WarmOnly(set));
    if (arm == Arm::kRetrieved) {
      RETURN_IF_ERROR(AwaitVectors(set));
      RETURN_IF_ERROR(EmptyMemory());
    }
    for (size_t test = 0; test < set.tests.size(); ++test) {
      if (arm == Arm::kMemory) RETURN_IF_ERROR(PutInMemory(set, set.tests[test].source));
      RETURN_IF_ERROR(Ask(set, test, {arm, replies, round}));
    }
    return absl::OkStatus();
  }

  // The cached prompts of the set become all that is cached, and durable.
  absl::Status WarmOnly(const PaperSet& set) {
    admin::v1::PurgeCacheEntriesRequest purge;
    purge.set_all(true);
    purge.set_force(true);
    RETURN_IF_ERROR(client_.PurgeCacheEntries(purge).status());
    admin::v1::WarmCacheRequest warm;
    for (const PaperPrompt& prompt : set.cached) *warm.add_prompts() = prompt.prompt;
    ASSIGN_OR_RETURN(const auto warmed, client_.WarmCache(warm));
    if (warmed.durable_token_count() == warmed.prompt_token_count()) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("the store holds ", warmed.durable_token_count(), " of the ",
                     warmed.prompt_token_count(), " tokens that were to be cached; it must be on, ",
                     "with cache.store.write_selectively: false"));
  }

  // Until vector search finds each cached prompt.
  absl::Status AwaitVectors(const PaperSet& set) {
    const absl::Time limit = absl::Now() + kIndexLimit;
    for (const PaperPrompt& prompt : set.cached) {
      inference::v1::ExplainPromptRequest request;
      *request.mutable_prompt() = prompt.prompt;
      while (true) {
        ASSIGN_OR_RETURN(const auto explained, client_.ExplainPrompt(request));
        const auto& nearest = explained.nearest();
        if (nearest.similarity() > kItself &&
            nearest.common_token_count() == static_cast<int>(prompt.ids.size())) {
          break;
        }
        if (absl::Now() > limit) {
          return absl::DeadlineExceededError(
              absl::StrCat("vector search does not find \"", prompt.label, "\""));
        }
        absl::SleepFor(absl::Milliseconds(5));
      }
    }
    return absl::OkStatus();
  }

  // A prompt that needs all blocks but one displaces what is cached, and is not cached itself. What
  // stays is the block that is worth most: one that two others have gone on from.
  absl::Status EmptyMemory() {
    ASSIGN_OR_RETURN(const auto before, client_.GetCacheStats());
    const int64_t tokens = (before.host().block_count() - 1) * kBlockTokens - 1;
    if (tokens > context_length_) {
      return absl::FailedPreconditionError(absl::StrCat(
          "cache.host_bytes: room for ", tokens, " tokens, expected at most the context's ",
          context_length_, ", so that one prompt displaces all others: ",
          before.host().block_bytes() * (context_length_ / kBlockTokens), " bytes"));
    }
    Ids ids(kBlockTokens, kFillerId);
    for (const int32_t next : {kFillerId, kFillerId + 1}) {
      RETURN_IF_ERROR(Prefill(IdsPrompt(ids), inference::v1::CACHE_POLICY_FORCE));
      ids.resize(kBlockTokens);
      ids.push_back(next);
    }
    RETURN_IF_ERROR(Prefill(IdsPrompt(ids), inference::v1::CACHE_POLICY_FORCE));
    ids.assign(static_cast<size_t>(tokens), kFillerId);
    RETURN_IF_ERROR(Prefill(IdsPrompt(ids), inference::v1::CACHE_POLICY_BYPASS));
    ASSIGN_OR_RETURN(const auto after, client_.GetCacheStats());
    if (after.host().cached_block_count() <= 1) return absl::OkStatus();
    return absl::InternalError(
        absl::StrCat(after.host().cached_block_count(), " blocks are cached in memory still"));
  }

  absl::Status Prefill(const inference::v1::Prompt& prompt, inference::v1::CachePolicy policy) {
    GenerationSpec spec;
    *spec.mutable_prompt() = prompt;
    spec.set_max_output_tokens(0);
    spec.mutable_cache()->set_policy(policy);
    spec.mutable_cache()->set_retrieval_mode(inference::v1::RETRIEVAL_MODE_PREFIX);
    return client_.Generate(spec).status();
  }

  // Whichever tier has the cached prompt, memory has it afterwards.
  absl::Status PutInMemory(const PaperSet& set, int cached) {
    if (cached < 0) return absl::OkStatus();
    return Prefill(set.cached[cached].prompt, inference::v1::CACHE_POLICY_FORCE);
  }

  absl::Status Ask(const PaperSet& set, size_t test, const Request& request) {
    const PaperPrompt& prompt = set.tests[test];
    const GenerationSpec spec = SpecFor(prompt, request.arm, request.replies);
    const absl::Time start = absl::Now();
    ASSIGN_OR_RETURN(const Generation reply, client_.Generate(spec));
    const absl::Duration took = absl::Now() - start;
    if (request.round < 0) return absl::OkStatus();
    PaperRow row;
    row.set = prompt.set;
    row.arm = kArmNames[static_cast<int>(request.arm)];
    row.ends = request.replies.ends;
    row.repeat = request.round;
    row.prompt = static_cast<int>(test);
    row.label = prompt.label;
    row.prompt_tokens = reply.usage().prompt_token_count();
    row.common_tokens = prompt.common_tokens;
    row.reused_tokens = reply.usage().cached_token_count();
    row.disk_tokens = reply.reuse().disk_token_count();
    row.output_tokens = reply.usage().output_token_count();
    if (reply.reuse().has_candidate()) {
      row.prompt_similarity = reply.reuse().candidate().similarity();
    }
    row.times = TimesOf(reply, took);
    row.finish = EnumLabel(FinishReason_Name(reply.finish_reason()), "FINISH_REASON_");
    row.output = OutputIds(reply);
    row.reply = reply.text();
    const std::lock_guard<std::mutex> lock(mutex_);
    rows_.push_back(std::move(row));
    return absl::OkStatus();
  }

  Client& client_;
  const int context_length_;
  std::mutex mutex_;  // guards rows_
  std::vector<PaperRow>& rows_;
};

absl::Status CheckMayPurge(Client& client, bool purge) {
  ASSIGN_OR_RETURN(const auto stats, client.GetCacheStats());
  const int64_t cached =
      std::max(stats.host().cached_token_count(), stats.disk().cached_token_count());
  if (purge || cached == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the server has ", cached, " tokens cached, and the experiment purges what the ",
                   "caller's tenant has; --purge allows that"));
}

absl::Status RunPaperSet(Client& client, const PaperOptions& options, Experiment& experiment) {
  PromptTexts texts;
  ASSIGN_OR_RETURN(texts.cached, ReadCsvColumn(options.cache_prompts, "text"));
  ASSIGN_OR_RETURN(texts.tests, ReadCsvColumn(options.test_prompts, "text"));
  ASSIGN_OR_RETURN(const auto unrelated, ReadCsvColumn(options.unrelated_prompts, "text"));
  ASSIGN_OR_RETURN(PaperSet set, TextSet(client, "paper", texts));
  // Without overlap only the time can differ, which says more where all replies are of one length.
  const Replies early{"eos", options.output_tokens}, equal{"length", options.equal_tokens};
  if (early.tokens > 0 && equal.tokens > 0) {
    RETURN_IF_ERROR(experiment.RunRounds(set, early, options.repeats));
  }
  const Replies& last = equal.tokens > 0 ? equal : early;
  if (last.tokens == 0) return absl::OkStatus();
  RETURN_IF_ERROR(AddTests(client, "unrelated", unrelated, set));
  return experiment.RunRounds(set, last, options.repeats);
}

}  // namespace

absl::StatusOr<PaperReport> RunPaper(Client& client, const PaperOptions& options) {
  constexpr int kDepthTokens = 4;
  PaperReport report;
  ASSIGN_OR_RETURN(report.model, client.GetModel());
  RETURN_IF_ERROR(CheckMayPurge(client, options.purge));
  Experiment experiment(client, report);
  if (options.repeats > 0) RETURN_IF_ERROR(RunPaperSet(client, options, experiment));
  if (options.depth_repeats > 0) {
    ASSIGN_OR_RETURN(const PaperSet set,
                     DepthSet(client, report.model.context_length(), kDepthTokens));
    RETURN_IF_ERROR(experiment.RunRounds(set, {"length", kDepthTokens}, options.depth_repeats));
  }
  if (options.generated > 0) {
    std::cerr << "generated: " << options.generated << " prompts" << std::endl;
    ASSIGN_OR_RETURN(const PaperSet set,
                     TextSet(client, "generated", GenerateTexts(options.seed, options.generated)));
    RETURN_IF_ERROR(
        experiment.RunOnce(set, {"length", options.generated_tokens}, options.concurrency));
  }
  return report;
}

}  // namespace reprise::client
