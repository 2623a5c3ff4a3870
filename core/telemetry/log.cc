#include "core/telemetry/log.h"

#include <spdlog/async.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/json.h"
#include "core/base/status_macros.h"
#include "core/telemetry/line_sink.h"

namespace reprise {
namespace {

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

const char* LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "info";
}

std::string ValueText(const LogValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return JsonQuote(*text);
  if (const auto* integer = std::get_if<int64_t>(&value)) return absl::StrCat(*integer);
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  return JsonNumber(std::get<double>(value));
}

std::string FormatLine(bool json, LogLevel level, absl::string_view event,
                       const LogFields& fields) {
  const std::string now =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::Now(), absl::UTCTimeZone());
  if (!json) {
    std::string line = absl::StrCat(now, " ", LevelName(level), " ", event);
    for (const auto& [key, value] : fields) absl::StrAppend(&line, " ", key, "=", ValueText(value));
    return line;
  }
  std::string line = absl::StrCat("{\"time\":\"", now, "\",\"level\":\"", LevelName(level),
                                  "\",\"event\":", JsonQuote(event));
  for (const auto& [key, value] : fields) {
    absl::StrAppend(&line, ",", JsonQuote(key), ":", ValueText(value));
  }
  return line + "}";
}

void AddCounts(const RequestSummary& s, LogFields& fields) {
  for (const auto& [name, count] :
       {std::pair<const char*, int64_t>{"prompt_tokens", s.prompt_tokens},
        {"cached_tokens", s.cached_tokens},
        {"computed_tokens", s.computed_tokens},
        {"output_tokens", s.output_tokens},
        {"draft_tokens", s.draft_tokens},
        {"accepted_tokens", s.accepted_tokens},
        {"ideal_tokens", s.ideal_tokens},
        {"device_tokens", s.device_tokens},
        {"host_tokens", s.host_tokens},
        {"disk_tokens", s.disk_tokens},
        {"in_flight_tokens", s.in_flight_tokens},
        {"split_tokens", s.split_tokens},
        {"disk_bytes_read", s.disk_bytes_read}}) {
    fields.emplace_back(name, count);
  }
}

void AddReuse(const RequestSummary& s, LogFields& fields) {
  fields.insert(fields.end(), {{"retrieval_mode", s.retrieval_mode},
                               {"decision", s.decision},
                               {"reason", s.reason},
                               {"miss_reason", s.miss_reason},
                               {"candidate_status", s.candidate_status},
                               {"candidate_id", s.candidate_id},
                               {"candidate_similarity", s.candidate_similarity},
                               {"candidate_common_tokens", int64_t{s.candidate_common_tokens}},
                               {"numerics_id", s.numerics_id},
                               {"exact", s.exact}});
}

void AddTimes(const RequestSummary& s, LogFields& fields) {
  for (const auto& [name, time] : {std::pair<const char*, absl::Duration>{"queue_seconds", s.queue},
                                   {"tokenize_seconds", s.tokenize},
                                   {"lookup_seconds", s.lookup},
                                   {"shared_wait_seconds", s.shared_wait},
                                   {"load_seconds", s.load},
                                   {"prefill_seconds", s.prefill},
                                   {"time_to_first_token_seconds", s.time_to_first_token},
                                   {"decode_seconds", s.decode},
                                   {"total_seconds", s.total},
                                   {"predicted_load_seconds", s.predicted_load},
                                   {"predicted_prefill_seconds", s.predicted_prefill},
                                   {"predicted_cold_prefill_seconds", s.predicted_cold_prefill},
                                   {"predicted_total_seconds", s.predicted_total},
                                   {"actual_load_seconds", s.actual_load},
                                   {"entry_age_seconds", s.entry_age},
                                   {"regret_seconds", s.regret}}) {
    fields.emplace_back(name, absl::ToDoubleSeconds(time));
  }
}

}  // namespace

struct Logger::Impl {
  bool json = true;
  Metrics* metrics = nullptr;
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<spdlog::async_logger> logger;
  std::atomic<size_t> reported_overruns{0};

  // Lines lost since the last call go into the metrics.
  void CountDropped() {
    const size_t overruns = pool->overrun_counter();
    const size_t before = reported_overruns.exchange(overruns);
    if (metrics != nullptr && overruns > before) {
      metrics->LogLinesDropped(static_cast<int64_t>(overruns - before));
    }
  }
};

Logger::Logger(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

absl::StatusOr<std::unique_ptr<Logger>> Logger::Create(const LogOptions& options,
                                                       Metrics* metrics) {
  auto impl = std::make_unique<Impl>();
  impl->json = options.json;
  impl->metrics = metrics;
  ASSIGN_OR_RETURN(const std::shared_ptr<LineSink> sink, LineSink::Open(options.file));
  try {
    impl->pool = std::make_shared<spdlog::details::thread_pool>(options.queue_lines, 1);
    impl->logger = std::make_shared<spdlog::async_logger>(
        "reprise", sink, impl->pool, spdlog::async_overflow_policy::overrun_oldest);
  } catch (const spdlog::spdlog_ex& error) {
    return absl::UnavailableError(absl::StrCat("log: ", error.what()));
  }
  impl->logger->set_pattern("%v");
  impl->logger->set_level(ToSpdlog(options.level));
  // A full disk loses the line; telling of it on the same disk would lose more.
  impl->logger->set_error_handler([metrics](const std::string&) {
    if (metrics != nullptr) metrics->LogLinesDropped(1);
  });
  return std::unique_ptr<Logger>(new Logger(std::move(impl)));
}

Logger::~Logger() { impl_->CountDropped(); }

void Logger::Write(LogLevel level, absl::string_view event, const LogFields& fields) {
  if (!impl_->logger->should_log(ToSpdlog(level))) return;
  impl_->logger->log(ToSpdlog(level),
                     spdlog::string_view_t(FormatLine(impl_->json, level, event, fields)));
  impl_->CountDropped();
}

void Logger::Request(const RequestSummary& s) {
  LogFields fields{{"request_id", s.request_id},
                   {"method", s.method},
                   {"tenant", s.tenant},
                   {"code", s.code},
                   {"finish_reason", s.finish_reason}};
  AddCounts(s, fields);
  AddReuse(s, fields);
  AddTimes(s, fields);
  Info("request", fields);
}

}  // namespace reprise
