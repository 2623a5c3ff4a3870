#include "client/load/load_options.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands.h"
#include "client/load/json_writer.h"
#include "client/load/profiles.h"
#include "client/load/trace_reader.h"
#include "core/base/status_macros.h"

namespace reprise::client::load {
namespace {

// Thinking takes a minute in the profiles; at this pace a short run sees later turns too.
constexpr double kProfileSpeedup = 30;
constexpr double kDefaultDuration = 30;
constexpr double kDefaultRate = 1;

absl::Status MakeProfile(const LoadOptions& options, const inference::v1::Model& model,
                         LoadPlan& plan) {
  ProfileOptions profile;
  profile.context_length = model.context_length();
  profile.vocabulary_size = model.vocabulary_size();
  profile.seed = options.workload_seed;
  profile.length_scale = options.length_scale.value_or(1);
  profile.second_tenant = !options.second_token.empty();
  ASSIGN_OR_RETURN(plan.source, CreateProfile(options.profile, profile));
  plan.workload.kind = "profile";
  plan.workload.name = options.profile;
  plan.driver.schedule.arrival = ProfileArrival(options.profile);
  if (options.profile == "adversarial" && options.second_token.empty()) {
    plan.workload.notes.push_back("no --second-token-file: other tenants' prompts are left out");
  }
  return absl::OkStatus();
}

absl::Status MakeTrace(const LoadOptions& options, const inference::v1::Model& model,
                       LoadPlan& plan) {
  TraceOptions trace;
  ASSIGN_OR_RETURN(trace.format, ParseTraceFormat(options.trace_format));
  trace.refuse_malformed = options.on_malformed == "refuse";
  trace.context_length = model.context_length();
  trace.vocabulary_size = model.vocabulary_size();
  trace.seed = options.workload_seed;
  trace.length_scale = options.length_scale.value_or(1);
  ASSIGN_OR_RETURN(auto source, ReadTrace(options.trace, trace));
  const TraceFacts& facts = source->facts();
  if (facts.needs_chat_format && model.chat_format().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("--trace-format: ", options.trace_format,
                     " holds conversations, and the model has no chat format"));
  }
  plan.workload.kind = "trace";
  plan.workload.name = options.trace_format;
  plan.workload.file = options.trace;
  plan.workload.malformed_count = facts.malformed_count;
  plan.workload.clipped_count = facts.clipped;
  for (const std::string& line : facts.malformed) {
    plan.workload.notes.push_back(absl::StrCat("skipped ", line));
  }
  plan.driver.schedule.arrival = facts.timed ? Arrival::kTrace : Arrival::kPoisson;
  if (options.arrival == "trace" && !facts.timed) {
    return absl::InvalidArgumentError("--arrival: trace, and this trace tells no times");
  }
  plan.source = std::move(source);
  return absl::OkStatus();
}

bool Conversations(const LoadOptions& options) {
  return options.trace_format == "sharegpt" || options.trace_format == "messages";
}

// An option that would do nothing is more likely a mistake than a wish.
absl::Status CheckUsed(const LoadOptions& options, Arrival arrival) {
  const bool drawn = arrival != Arrival::kTrace && arrival != Arrival::kClosed;
  const bool scaled =
      options.profile != "paper" && options.profile != "adversarial" && !Conversations(options);
  const struct {
    const char* name;
    const std::optional<double>& value;
    bool used;
  } checks[] = {{"--rate", options.rate, drawn},
                {"--end-rate", options.end_rate, arrival == Arrival::kRamp},
                {"--cv", options.cv, arrival == Arrival::kGamma},
                {"--length-scale", options.length_scale, scaled}};
  for (const auto& [name, value, used] : checks) {
    if (!value || used) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", *value, ", does nothing with ",
                     options.profile.empty() ? "--trace-format " : "--profile ",
                     options.profile.empty() ? options.trace_format : options.profile,
                     " and --arrival ", ArrivalName(arrival)));
  }
  if (!options.second_token.empty() && options.profile != "adversarial") {
    return absl::InvalidArgumentError("--second-token-file: is for --profile adversarial");
  }
  return absl::OkStatus();
}

absl::Status SetArrival(const LoadOptions& options, LoadPlan& plan) {
  ScheduleOptions& schedule = plan.driver.schedule;
  if (options.concurrency > 0) schedule.arrival = Arrival::kClosed;
  if (!options.arrival.empty()) {
    ASSIGN_OR_RETURN(schedule.arrival, ParseArrival(options.arrival));
  }
  const bool closed = schedule.arrival == Arrival::kClosed;
  if (closed != (options.concurrency > 0)) {
    return absl::InvalidArgumentError("--concurrency: is for --arrival closed, which needs it");
  }
  if (schedule.arrival == Arrival::kTrace && plan.workload.kind == "profile") {
    return absl::InvalidArgumentError("--arrival: trace, and a profile tells no times");
  }
  RETURN_IF_ERROR(CheckUsed(options, schedule.arrival));
  if (!closed && schedule.arrival != Arrival::kTrace && schedule.arrival != Arrival::kRamp) {
    plan.rate = options.rate.value_or(kDefaultRate);
  }
  const double turns = plan.source->mean_turns();
  schedule.rate = options.rate.value_or(kDefaultRate) / turns;
  schedule.cv = options.cv.value_or(schedule.cv);
  schedule.seed = options.workload_seed ^ 0xA881;
  if (schedule.arrival == Arrival::kRamp) {
    if (!options.end_rate || options.duration <= 0) {
      return absl::InvalidArgumentError("--arrival: ramp needs --end-rate and --duration");
    }
    schedule.end_rate = *options.end_rate / turns;
    schedule.ramp_seconds = options.duration;
  }
  return CheckSchedule(schedule);
}

std::string OptionsJson(const LoadOptions& options, const LoadPlan& plan) {
  const DriverOptions& d = plan.driver;
  JsonObject object;
  object.Add("arrival", ArrivalName(d.schedule.arrival))
      .Add("rate_per_second", options.rate.value_or(kDefaultRate))
      .Add("end_rate_per_second", options.end_rate)
      .Add("cv", d.schedule.cv)
      .Add("concurrency", options.concurrency)
      .Add("channels", d.channels)
      .Add("max_in_flight", d.max_in_flight)
      .Add("duration_seconds", d.duration_seconds)
      .Add("request_limit", d.request_limit)
      .Add("warmup_seconds", d.warmup_seconds)
      .Add("grace_seconds", d.grace_seconds)
      .Add("speedup", d.speedup)
      .Add("length_scale", options.length_scale.value_or(1))
      .Add("workload_seed", static_cast<int64_t>(options.workload_seed))
      .Add("cancel_ratio", d.cancel_ratio)
      .Add("ignore_eos", d.spec.sampling().ignore_eos())
      .Add("max_tokens", options.generation.max_tokens)
      .Add("temperature", d.spec.sampling().temperature())
      .Add("cache_policy", options.generation.cache_policy)
      .Add("retrieval_mode", options.generation.retrieval_mode)
      .Add("speculation", options.generation.speculation)
      .Add("timeout_seconds", absl::ToDoubleSeconds(d.client.timeout))
      .Add("goodput", options.goodput);
  return object.Text();
}

std::string LoadText(const LoadOptions& options, const LoadPlan& plan) {
  const DriverOptions& d = plan.driver;
  std::string text;
  switch (d.schedule.arrival) {
    case Arrival::kClosed:
      text = absl::StrCat("closed loop, ", d.concurrency, " sessions at a time");
      break;
    case Arrival::kTrace:
      text = "open loop at the trace's times";
      break;
    default:
      text = absl::StrFormat("open loop, %s, %g requests/s",
                             std::string(ArrivalName(d.schedule.arrival)),
                             options.rate.value_or(kDefaultRate));
      if (options.end_rate) absl::StrAppendFormat(&text, " to %g", *options.end_rate);
      if (d.schedule.arrival == Arrival::kGamma)
        absl::StrAppendFormat(&text, ", CV %g", d.schedule.cv);
  }
  if (d.speedup != 1) absl::StrAppendFormat(&text, ", times sped up %g times", d.speedup);
  absl::StrAppend(&text, ", ", d.channels, d.channels == 1 ? " channel" : " channels", ", cache ",
                  options.generation.cache_policy, ", seed ", options.workload_seed);
  return text;
}

}  // namespace

void LoadOptions::AddWorkload(CLI::App& command) {
  auto* workload = command.add_option_group("workload", "What is sent");
  CLI::Option* named = workload->add_option("--profile", profile, "a bundled workload")
                           ->check(CLI::IsMember(ProfileNames()));
  CLI::Option* file = workload->add_option("--trace", trace, "a file of recorded traffic")
                          ->type_name("FILE")
                          ->excludes(named);
  workload->add_option("--trace-format", trace_format, "how the trace is written")
      ->check(CLI::IsMember(TraceFormatNames()))
      ->needs(file);
  workload->add_option("--on-malformed", on_malformed, "malformed lines of a trace: skip or refuse")
      ->check(CLI::IsMember({"skip", "refuse"}))
      ->needs(file)
      ->capture_default_str();
  workload
      ->add_option("--length-scale", length_scale, "factor on the lengths of prompts and replies")
      ->check(CLI::Range(1e-4, 1e3));
  workload->add_option("--workload-seed", workload_seed, "of prompts, lengths and times")
      ->capture_default_str();
  workload
      ->add_option("--cancel-ratio", cancel_ratio,
                   "share of requests that the client cancels, at a random token")
      ->check(CLI::Range(0.0, 1.0));
  workload->add_flag("--respect-eos", respect_eos,
                     "let the model end replies to made-up tokens, whose lengths are drawn");
  AddTokenFile(*workload, "--second-token-file", second_token,
               "bearer token of another tenant, for the profile adversarial");
}

void LoadOptions::AddArrival(CLI::App& command) {
  auto* arrivals = command.add_option_group("arrival", "When it is sent");
  arrivals->add_option("--arrival", arrival,
                       "poisson, gamma, ramp, uniform, trace or closed; default: gamma for api, "
                       "the trace's times where it has them, closed with --concurrency, else "
                       "poisson");
  arrivals->add_option("--rate", rate, "requests a second, on average; default 1");
  arrivals->add_option("--end-rate", end_rate, "ramp: the rate at the end of --duration");
  arrivals->add_option("--cv", cv, "gamma: coefficient of variation of the gaps; default 3");
  arrivals->add_option("--concurrency", concurrency, "closed loop: sessions at a time")
      ->check(CLI::Range(1, 100000));
  arrivals
      ->add_option("--duration", duration,
                   "seconds in which requests are sent; default 30 without --requests and "
                   "without a trace")
      ->check(CLI::Range(0.0, 1e6));
  arrivals->add_option("--requests", requests, "most requests that are sent")
      ->check(CLI::Range(int64_t{1}, int64_t{100000000}));
  arrivals->add_option("--warmup", warmup, "seconds at the start that are not measured")
      ->check(CLI::Range(0.0, 1e6));
  arrivals->add_option("--grace", grace, "seconds for the last replies; then they are cancelled")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  arrivals
      ->add_option("--speedup", speedup,
                   "divides thinking times and the times of a trace; default 30 for profiles, "
                   "1 for traces")
      ->check(CLI::Range(1e-3, 1e6));
  arrivals->add_option("--channels", channels, "connections to the server")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  arrivals->add_option("--max-in-flight", max_in_flight, "hold requests back above this many")
      ->check(CLI::Range(1, 1000000));
}

void LoadOptions::AddResults(CLI::App& command) {
  auto* results = command.add_option_group("results", "What becomes of it");
  results->add_option("--output", output, "folder for run.json, requests.jsonl and summary.csv")
      ->type_name("FOLDER");
  results->add_option("--slo", slos,
                      "a limit such as ttft_p99=200ms, error_ratio=1% or hit_ratio>=0.5; exit code "
                      "4 when it is missed; may be repeated");
  results->add_option("--goodput", goodput,
                      "count requests that keep limits such as ttft=200ms,tpot=50ms,e2e=2s");
  results->add_flag("--no-progress", no_progress, "no line about how the run goes");
}

void LoadOptions::AddTo(CLI::App& command) {
  AddWorkload(command);
  AddArrival(command);
  AddResults(command);
  generation.AddTo(*command.add_option_group("generation", "How each reply is generated"));
}

absl::Status CheckLimits(const LoadOptions& options, LoadPlan& plan) {
  if (options.profile.empty() == options.trace.empty()) {
    return absl::InvalidArgumentError("--profile or --trace must be given");
  }
  if (!options.trace.empty() && options.trace_format.empty()) {
    return absl::InvalidArgumentError("--trace needs --trace-format");
  }
  for (const std::string& text : options.slos) {
    ASSIGN_OR_RETURN(Slo slo, ParseSlo(text));
    plan.slos.push_back(std::move(slo));
  }
  if (!options.goodput.empty()) {
    ASSIGN_OR_RETURN(plan.goodput, ParseGoodput(options.goodput));
  }
  return absl::OkStatus();
}

absl::Status MakePlan(const LoadOptions& options, const ClientOptions& client,
                      const inference::v1::Model& model, LoadPlan& plan) {
  const bool traced = options.profile.empty();
  RETURN_IF_ERROR(traced ? MakeTrace(options, model, plan) : MakeProfile(options, model, plan));
  RETURN_IF_ERROR(SetArrival(options, plan));
  DriverOptions& d = plan.driver;
  d.client = client;
  d.second_token = options.second_token;
  ClientOptions second = client;
  second.token = options.second_token;
  RETURN_IF_ERROR(CheckTokenPath(second, "--second-token-file"));
  d.spec = options.generation.ToSpec();
  if (!Conversations(options) && !options.respect_eos)
    d.spec.mutable_sampling()->set_ignore_eos(true);
  d.context_length = model.context_length();
  d.concurrency = options.concurrency;
  d.channels = options.channels;
  d.max_in_flight = options.max_in_flight;
  d.request_limit = options.requests;
  d.duration_seconds = options.duration;
  if (options.duration <= 0 && options.requests == 0 && !traced) {
    d.duration_seconds = kDefaultDuration;
  }
  d.warmup_seconds = options.warmup;
  d.grace_seconds = options.grace;
  d.speedup = options.speedup.value_or(traced ? 1 : kProfileSpeedup);
  d.cancel_ratio = options.cancel_ratio;
  d.seed = options.workload_seed;
  plan.options_json = OptionsJson(options, plan);
  plan.load_text = LoadText(options, plan);
  return absl::OkStatus();
}

}  // namespace reprise::client::load
