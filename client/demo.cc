#include "client/demo.h"

#include <algorithm>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/commands.h"
#include "client/csv.h"
#include "client/format.h"
#include "client/paper/prompt_calls.h"
#include "core/base/status_macros.h"

namespace reprise::client {
namespace {

using inference::v1::CachePolicy;
using inference::v1::Generation;
using inference::v1::GenerationSpec;
using inference::v1::Prompt;

constexpr int kLongPromptTokens = 544;
constexpr int kLongCachedTokens = 512;

absl::Status Warm(Client& client, const Prompt& prompt) {
  GenerationSpec spec;
  *spec.mutable_prompt() = prompt;
  spec.set_max_output_tokens(0);
  return client.Generate(spec).status();
}

// Waits until `vectors` prompts are indexed and nothing is left to write.
absl::Status WaitUntilCached(Client& client, int64_t vectors) {
  const absl::Time limit = absl::Now() + absl::Minutes(1);
  while (absl::Now() < limit) {
    ASSIGN_OR_RETURN(const auto stats, client.GetCacheStats());
    const bool written = !stats.disk().enabled() || stats.disk().pending_segment_count() == 0;
    if (written && stats.similarity().vector_count() >= vectors) return absl::OkStatus();
    absl::SleepFor(absl::Milliseconds(50));
  }
  return absl::DeadlineExceededError("the cache did not take up the prompts within a minute");
}

absl::StatusOr<Generation> Ask(Client& client, const Prompt& prompt, CachePolicy policy,
                               int output_tokens) {
  GenerationSpec spec;
  *spec.mutable_prompt() = prompt;
  spec.set_max_output_tokens(output_tokens);
  spec.mutable_sampling()->set_ignore_eos(true);
  spec.mutable_cache()->set_policy(policy);
  spec.mutable_cache()->set_retrieval_mode(inference::v1::RETRIEVAL_MODE_SEMANTIC);
  return client.Generate(spec);
}

bool SameTokens(const Generation& cold, const Generation& warm) {
  return cold.token_ids_size() > 0 && OutputIds(cold) == OutputIds(warm);
}

absl::StatusOr<DemoRow> AskColdAndWarm(Client& client, const Prompt& prompt, int output_tokens) {
  ASSIGN_OR_RETURN(const Generation cold,
                   Ask(client, prompt, inference::v1::CACHE_POLICY_BYPASS, output_tokens));
  ASSIGN_OR_RETURN(const Generation warm,
                   Ask(client, prompt, inference::v1::CACHE_POLICY_FORCE, output_tokens));
  DemoRow row;
  row.prompt_tokens = warm.usage().prompt_token_count();
  row.reused_tokens = warm.usage().cached_token_count();
  row.similarity = warm.reuse().candidate().similarity();
  row.cold_first_token = Milliseconds(cold.timings().time_to_first_token());
  row.warm_first_token = Milliseconds(warm.timings().time_to_first_token());
  row.cold_total = Milliseconds(cold.timings().total());
  row.warm_total = Milliseconds(warm.timings().total());
  row.same_output = SameTokens(cold, warm);
  return row;
}

absl::Status WarmAll(Client& client, const std::vector<std::string>& prompts,
                     const Ids& long_prefix) {
  std::cerr << "Warming " << prompts.size() << " cache prompts and one of " << long_prefix.size()
            << " tokens" << std::endl;
  for (const std::string& prompt : prompts) RETURN_IF_ERROR(Warm(client, TextPrompt(prompt)));
  RETURN_IF_ERROR(Warm(client, IdsPrompt(long_prefix)));
  return WaitUntilCached(client, static_cast<int64_t>(prompts.size()) + 1);
}

}  // namespace

absl::StatusOr<DemoReport> RunDemo(Client& client, const DemoOptions& options) {
  ASSIGN_OR_RETURN(const auto cache_prompts, ReadCsvColumn(options.cache_prompts, "text"));
  ASSIGN_OR_RETURN(const auto test_prompts, ReadCsvColumn(options.test_prompts, "text"));
  ASSIGN_OR_RETURN(Ids long_ids, Tokenize(client, LongPassage("Station", kLongPromptTokens)));
  long_ids.resize(kLongPromptTokens);
  const Ids long_prefix(long_ids.begin(), long_ids.begin() + kLongCachedTokens);
  std::vector<Ids> cached;
  for (const std::string& prompt : cache_prompts) {
    ASSIGN_OR_RETURN(Ids ids, Tokenize(client, prompt));
    cached.push_back(std::move(ids));
  }
  RETURN_IF_ERROR(WarmAll(client, cache_prompts, long_prefix));

  DemoReport report;
  for (const std::string& prompt : test_prompts) {
    std::cerr << "Asking cold and warm: " << prompt << std::endl;
    ASSIGN_OR_RETURN(const Ids ids, Tokenize(client, prompt));
    ASSIGN_OR_RETURN(DemoRow row,
                     AskColdAndWarm(client, TextPrompt(prompt), options.output_tokens));
    row.label = prompt;
    for (const Ids& other : cached) {
      row.common_tokens = std::max(row.common_tokens, CommonTokens(ids, other));
    }
    report.rows.push_back(std::move(row));
  }
  std::cerr << "Asking cold and warm: a prompt of " << kLongPromptTokens << " tokens" << std::endl;
  ASSIGN_OR_RETURN(report.long_row,
                   AskColdAndWarm(client, IdsPrompt(long_ids), options.output_tokens));
  report.long_row.label =
      absl::StrCat("(", kLongPromptTokens, " tokens, ", kLongCachedTokens, " cached)");
  report.long_row.common_tokens = kLongCachedTokens;
  return report;
}

bool DemoPassed(const DemoReport& report) {
  const auto good = [](const DemoRow& row) { return row.ReusedAll() && row.same_output; };
  return !report.rows.empty() && std::all_of(report.rows.begin(), report.rows.end(), good) &&
         good(report.long_row);
}

void AddDemoCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen) {
  CLI::App* command =
      app.add_subcommand("demo", "Run the paper's flow against a server in SEMANTIC mode");
  auto options = std::make_shared<DemoOptions>();
  command->add_option("--cache-prompts", options->cache_prompts, "CSV with a column text")
      ->capture_default_str();
  command->add_option("--test-prompts", options->test_prompts, "CSV with a column text")
      ->capture_default_str();
  command->add_option("--output-tokens", options->output_tokens, "tokens of each reply")
      ->check(CLI::Range(1, 512))
      ->capture_default_str();
  command->callback([=, &globals, &chosen] {
    chosen = [=, &globals] {
      Client client = globals.Connect();
      const auto report = RunDemo(client, *options);
      if (!report.ok()) return ReportFailure(report.status());
      std::cout << DemoText(*report);
      return DemoPassed(*report) ? 0 : kExitCheckFailed;
    };
  });
}

}  // namespace reprise::client
