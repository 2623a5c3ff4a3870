#include "client/load/summary.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "client/format.h"
#include "client/load/timeline.h"

namespace reprise::client::load {
namespace {

using inference::v1::Generation;

constexpr size_t kMostErrors = 20;

// Adds a request's values of one latency to a list.
using Values = std::function<void(const RequestRecord&, std::vector<double>&)>;

struct Definition {
  const char* name;
  const char* formula;
  Values values;
  bool early = false;      // known before the reply ends
  bool scheduled = false;  // counts from the schedule
};

Values One(std::function<std::optional<double>(const RequestRecord&)> get) {
  return [get = std::move(get)](const RequestRecord& r, std::vector<double>& to) {
    if (const auto value = get(r)) to.push_back(*value);
  };
}

using Timing = const google::protobuf::Duration& (inference::v1::Timings::*)() const;

Values Server(Timing timing) {
  return One(
      [timing](const RequestRecord& r) { return Milliseconds((r.reply->timings().*timing)()); });
}

double ServerTtft(const RequestRecord& r) {
  return Milliseconds(r.reply->timings().time_to_first_token());
}

std::optional<double> ServerTpot(const RequestRecord& r) {
  const auto tokens = r.reply->usage().output_token_count();
  if (tokens < 2) return std::nullopt;
  return Milliseconds(r.reply->timings().decode()) / (tokens - 1);
}

std::optional<double> NetworkTtft(const RequestRecord& r) {
  const auto client = ClientTtft(r);
  return client ? std::optional(*client - ServerTtft(r)) : std::nullopt;
}

double PredictionError(const RequestRecord& r) {
  const auto& t = r.reply->timings();
  return Milliseconds(t.load()) + Milliseconds(t.prefill()) -
         Milliseconds(r.reply->reuse().predicted_total());
}

std::vector<Definition> ClientDefinitions() {
  return {
      {"client_ttft", "first token - sent", One(ClientTtft), true},
      {"client_ttft_scheduled", "first token - scheduled", One(ClientTtftScheduled), true, true},
      {"client_tpot", "(last token - first token) / (tokens - 1)", One(ClientTpot)},
      {"client_itl", "gaps between chunks with tokens, of all requests together",
       [](const RequestRecord& r, std::vector<double>& to) {
         for (const double gap : InterChunkGaps(r)) to.push_back(gap);
       }},
      {"client_e2e", "status - sent",
       One([](const RequestRecord& r) { return (r.finished - r.sent) * 1000; })},
      {"client_e2e_scheduled", "status - scheduled",
       One([](const RequestRecord& r) { return (r.finished - r.scheduled) * 1000; }), false, true},
      {"send_delay", "sent - scheduled",
       One([](const RequestRecord& r) { return (r.sent - r.scheduled) * 1000; }), true, true},
  };
}

std::vector<Definition> ServerDefinitions() {
  using inference::v1::Timings;
  return {
      {"server_queue", "submitted until taken up", Server(&Timings::queue)},
      {"server_tokenize", "text to token ids", Server(&Timings::tokenize)},
      {"server_lookup", "finding what can be reused", Server(&Timings::lookup)},
      {"server_shared_wait", "waiting for a prefix that another request computes",
       Server(&Timings::shared_wait)},
      {"server_load", "waiting for the store, less what overlapped compute",
       Server(&Timings::load)},
      {"server_prefill", "first prompt step to first token", Server(&Timings::prefill)},
      {"server_ttft", "handler entry to first token", One(ServerTtft)},
      {"server_decode", "first to last token", Server(&Timings::decode)},
      {"server_tpot", "decode / (tokens - 1)", One(ServerTpot)},
      {"server_total", "handler entry to last token", Server(&Timings::total)},
      {"network_ttft", "client_ttft - server_ttft", One(NetworkTtft)},
      {"network_total", "client_e2e - server_total", One([](const RequestRecord& r) {
         return (r.finished - r.sent) * 1000 - Milliseconds(r.reply->timings().total());
       })},
      {"prediction_error", "load + prefill - predicted", One(PredictionError)},
  };
}

// With what is known of requests without an end, and infinity for what is not.
std::vector<double> Strict(const Definition& definition, const std::vector<RequestRecord>& records,
                           const SummaryInput& input, std::vector<double> values) {
  for (const RequestRecord& r : records) {
    if (!r.aborted || !r.measured) continue;
    const size_t before = values.size();
    if (definition.early) definition.values(r, values);
    if (values.size() == before) values.push_back(INFINITY);
  }
  if (definition.scheduled) values.insert(values.end(), input.not_sent.size(), INFINITY);
  return values;
}

Latency Measure(const Definition& definition, const std::vector<RequestRecord>& records,
                const SummaryInput& input) {
  std::vector<double> all, warm, cold;
  for (const RequestRecord& r : records) {
    if (!r.completed() || !r.measured) continue;
    const size_t before = all.size();
    definition.values(r, all);
    auto& subset = r.warm() ? warm : cold;
    subset.insert(subset.end(), all.begin() + static_cast<std::ptrdiff_t>(before), all.end());
  }
  const auto strict = Describe(Strict(definition, records, input, all));
  return {definition.name,           definition.formula,        Describe(std::move(all)),
          Describe(std::move(warm)), Describe(std::move(cold)), strict};
}

void AddTotals(const std::vector<RequestRecord>& records, const SummaryInput& input,
               Summary& summary) {
  auto& totals = summary.totals;
  const auto count = [&](const char* name, auto value) {
    int64_t sum = 0;
    for (const RequestRecord& r : records) sum += static_cast<int64_t>(value(r));
    totals.emplace_back(name, sum);
  };
  count("sent_count", [](const RequestRecord&) { return 1; });
  count("completed_count", [](const RequestRecord& r) { return r.completed(); });
  count("failed_count", [](const RequestRecord& r) { return r.failed(); });
  count("cancelled_count", [](const RequestRecord& r) { return r.cancelled; });
  count("aborted_count", [](const RequestRecord& r) { return r.aborted; });
  totals.emplace_back("not_sent_count", static_cast<int64_t>(input.not_sent.size()));
  totals.emplace_back("sessions_count", input.sessions);
  count("received_token_count", [](const RequestRecord& r) { return r.received_tokens; });
  const auto of_reply = [&](const char* name, auto value) {
    count(name, [&](const RequestRecord& r) { return r.reply ? value(*r.reply) : 0; });
  };
  using G = Generation;
  of_reply("prompt_token_count", [](const G& g) { return g.usage().prompt_token_count(); });
  of_reply("cached_token_count", [](const G& g) { return g.usage().cached_token_count(); });
  of_reply("computed_token_count", [](const G& g) { return g.usage().computed_token_count(); });
  of_reply("output_token_count", [](const G& g) { return g.usage().output_token_count(); });
  of_reply("draft_token_count", [](const G& g) { return g.usage().draft_token_count(); });
  of_reply("accepted_token_count", [](const G& g) { return g.usage().accepted_token_count(); });
  of_reply("ideal_token_count", [](const G& g) { return g.reuse().ideal_token_count(); });
  of_reply("device_token_count", [](const G& g) { return g.reuse().device_token_count(); });
  of_reply("host_token_count", [](const G& g) { return g.reuse().host_token_count(); });
  of_reply("disk_token_count", [](const G& g) { return g.reuse().disk_token_count(); });
  of_reply("in_flight_token_count", [](const G& g) { return g.reuse().in_flight_token_count(); });
  of_reply("split_token_count", [](const G& g) { return g.reuse().split_token_count(); });
  of_reply("disk_read_bytes", [](const G& g) { return g.reuse().disk_read_bytes(); });
}

bool KeepsLimits(const RequestRecord& r, const RequestLimits& limits) {
  const auto keeps = [](const std::optional<double>& limit, const std::optional<double>& value) {
    return !limit || !value || *value <= *limit;
  };
  return r.completed() && keeps(limits.ttft, ClientTtft(r)) && keeps(limits.tpot, ClientTpot(r)) &&
         keeps(limits.e2e, (r.finished - r.sent) * 1000);
}

void AddRates(const std::vector<RequestRecord>& records, const SummaryInput& input,
              Summary& summary) {
  double first = INFINITY, last_scheduled = 0, last_sent = 0;
  for (const RequestRecord& r : records) {
    first = std::min(first, r.scheduled);
    last_scheduled = std::max(last_scheduled, r.scheduled);
    last_sent = std::max(last_sent, r.sent);
  }
  for (const double due : input.not_sent) last_scheduled = std::max(last_scheduled, due);
  const auto ratio = [](double part, double whole) {
    return whole > 0 ? std::optional(part / whole) : std::nullopt;
  };
  const auto total = [&](const char* name) { return static_cast<double>(summary.Total(name)); };
  const double sent = total("sent_count");
  auto& rates = summary.rates;
  rates.emplace_back("offered_per_second",
                     ratio(sent + total("not_sent_count") - 1, last_scheduled - first));
  rates.emplace_back("sent_per_second", ratio(sent - 1, last_sent - first));
  rates.emplace_back("completed_per_second", ratio(total("completed_count"), input.wall_seconds));
  rates.emplace_back("output_tokens_per_second",
                     ratio(total("output_token_count"), input.wall_seconds));
  rates.emplace_back("prompt_tokens_per_second",
                     ratio(total("prompt_token_count"), input.wall_seconds));
  rates.emplace_back("hit_ratio", ratio(total("cached_token_count"), total("prompt_token_count")));
  rates.emplace_back("ideal_hit_ratio",
                     ratio(total("cached_token_count"), total("ideal_token_count")));
  rates.emplace_back("error_ratio", ratio(total("failed_count") + total("aborted_count"), sent));
  std::optional<double> goodput;
  if (input.goodput) {
    const auto good = std::count_if(records.begin(), records.end(), [&](const RequestRecord& r) {
      return KeepsLimits(r, *input.goodput);
    });
    goodput = ratio(static_cast<double>(good), input.wall_seconds);
  }
  rates.emplace_back("goodput_per_second", goodput);
  rates.emplace_back("peak_in_flight", static_cast<double>(input.peak_in_flight));
}

void AddCounts(const std::vector<RequestRecord>& records, Summary& summary) {
  for (const RequestRecord& r : records) {
    ++summary.codes[r.code];
    if (r.failed() && (summary.errors.size() < kMostErrors || summary.errors.count(r.error) > 0)) {
      ++summary.errors[r.error];
    }
    if (!r.reply) continue;
    const auto& u = r.reply->reuse();
    ++summary
          .finish_reasons[EnumLabel(FinishReason_Name(r.reply->finish_reason()), "FINISH_REASON_")];
    ++summary.decisions[EnumLabel(ReuseDecision_Name(u.decision()), "REUSE_DECISION_")];
    ++summary.reasons[EnumLabel(ReuseReason_Name(u.reason()), "REUSE_REASON_")];
    ++summary.miss_reasons[EnumLabel(MissReason_Name(u.miss_reason()), "MISS_REASON_")];
  }
}

}  // namespace

int64_t Summary::Total(absl::string_view name) const {
  for (const auto& [key, value] : totals) {
    if (key == name) return value;
  }
  return 0;
}

std::optional<double> Summary::Rate(absl::string_view name) const {
  for (const auto& [key, value] : rates) {
    if (key == name) return value;
  }
  return std::nullopt;
}

const Latency* Summary::Find(absl::string_view latency) const {
  for (const Latency& one : latencies) {
    if (one.name == latency) return &one;
  }
  return nullptr;
}

std::vector<std::string> LatencyNames() {
  std::vector<std::string> names;
  for (const auto& definitions : {ClientDefinitions(), ServerDefinitions()}) {
    for (const Definition& one : definitions) names.emplace_back(one.name);
  }
  return names;
}

Summary Summarize(const std::vector<RequestRecord>& records, const SummaryInput& input) {
  Summary summary;
  AddTotals(records, input, summary);
  AddRates(records, input, summary);
  for (const auto& definitions : {ClientDefinitions(), ServerDefinitions()}) {
    for (const Definition& one : definitions) {
      summary.latencies.push_back(Measure(one, records, input));
    }
  }
  AddCounts(records, summary);
  summary.timeline = MakeTimeline(records, input.not_sent);
  return summary;
}

}  // namespace reprise::client::load
