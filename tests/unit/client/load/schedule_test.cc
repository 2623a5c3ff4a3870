#include "client/load/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "client/load/load_options.h"

namespace reprise::client::load {
namespace {

using ::testing::HasSubstr;

constexpr int kCount = 40000;

struct Moments {
  double mean = 0, cv = 0;
};

std::vector<double> Arrivals(const ScheduleOptions& options) {
  Schedule schedule(options);
  std::vector<double> times(kCount);
  for (double& time : times) time = schedule.Next();
  return times;
}

Moments GapMoments(const std::vector<double>& times) {
  double sum = 0, squares = 0, before = 0;
  for (const double time : times) {
    sum += time - before;
    squares += (time - before) * (time - before);
    before = time;
  }
  const double mean = sum / kCount;
  return {mean, std::sqrt(squares / kCount - mean * mean) / mean};
}

TEST(ScheduleTest, GapsHaveTheMeanOfTheRateAndTheAskedVariation) {
  struct Case {
    ScheduleOptions options;
    double cv, tolerance;
  };
  for (const Case& c : {Case{{.arrival = Arrival::kPoisson, .rate = 5}, 1, 0.03},
                        Case{{.arrival = Arrival::kUniform, .rate = 5}, 0, 1e-4},
                        Case{{.arrival = Arrival::kGamma, .rate = 5, .cv = 0.5}, 0.5, 0.03},
                        Case{{.arrival = Arrival::kGamma, .rate = 5, .cv = 3}, 3, 0.2}}) {
    const Moments moments = GapMoments(Arrivals(c.options));
    EXPECT_NEAR(moments.mean, 0.2, 0.2 * std::max(0.03, c.cv / 40))
        << ArrivalName(c.options.arrival);
    EXPECT_NEAR(moments.cv, c.cv, c.tolerance) << ArrivalName(c.options.arrival);
  }
}

TEST(ScheduleTest, ARampGoesFromOneRateToTheOtherAndStays) {
  for (const auto& [from, to] :
       {std::pair{10.0, 100.0}, std::pair{100.0, 10.0}, std::pair{50.0, 50.0}}) {
    const auto times =
        Arrivals({.arrival = Arrival::kRamp, .rate = from, .end_rate = to, .ramp_seconds = 200});
    const auto within = [&times = times](double begin, double end) {
      return static_cast<double>(std::count_if(times.begin(), times.end(),
                                               [&](double t) { return t >= begin && t < end; })) /
             (end - begin);
    };
    EXPECT_NEAR(within(0, 20), from + (to - from) * 0.05, 3 * std::sqrt(from / 20) + 1);
    EXPECT_NEAR(within(90, 110), (from + to) / 2, 3 * std::sqrt((from + to) / 40) + 1);
    EXPECT_NEAR(within(200, 300), to, 3 * std::sqrt(to / 100) + 1);
  }
}

TEST(ScheduleTest, TimesNeverFallAndFollowFromTheSeed) {
  const ScheduleOptions options{.arrival = Arrival::kGamma, .rate = 100, .cv = 13, .seed = 7};
  const auto times = Arrivals(options);
  EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
  EXPECT_EQ(times, Arrivals(options));
  ScheduleOptions other = options;
  other.seed = 8;
  EXPECT_NE(times, Arrivals(other));
}

TEST(ScheduleTest, NamesWhatIsOutOfRange) {
  const auto message = [](const ScheduleOptions& options) {
    return std::string(CheckSchedule(options).message());
  };
  EXPECT_THAT(message({.rate = 0}), HasSubstr("--rate: 0, must be above 0"));
  EXPECT_THAT(message({.rate = 1e9}), HasSubstr("at most 100000"));
  EXPECT_THAT(message({.arrival = Arrival::kGamma, .cv = -1}), HasSubstr("--cv"));
  EXPECT_THAT(message({.arrival = Arrival::kRamp, .end_rate = NAN}), HasSubstr("--end-rate"));
  EXPECT_TRUE(CheckSchedule({.arrival = Arrival::kClosed, .rate = 0}).ok());
  EXPECT_FALSE(ParseArrival("burst").ok());
  for (const char* name : {"poisson", "gamma", "ramp", "uniform", "trace", "closed"}) {
    EXPECT_EQ(ArrivalName(ParseArrival(name).value()), name);
  }
}

TEST(LoadOptionsTest, AnOptionThatDoesNothingIsRefused) {
  inference::v1::Model model;
  model.set_context_length(1024);
  model.set_vocabulary_size(257);
  model.set_chat_format("chatml");
  const auto problem = [&](std::vector<std::string> arguments) {
    CLI::App app;
    LoadOptions options;
    options.AddTo(app);
    std::reverse(arguments.begin(), arguments.end());
    app.parse(arguments);
    LoadPlan plan;
    return std::string(MakePlan(options, {}, model, plan).message());
  };
  const std::string trace = "tests/data/traces/azure.csv";
  EXPECT_EQ(problem({"--profile", "api", "--rate", "2", "--cv", "2", "--length-scale", "2"}), "");
  EXPECT_EQ(
      problem({"--trace", trace, "--trace-format", "azure", "--arrival", "uniform", "--rate", "2"}),
      "");
  EXPECT_THAT(problem({"--trace", trace, "--trace-format", "azure", "--rate", "2"}),
              HasSubstr("--rate: 2, does nothing with --trace-format azure and --arrival trace"));
  EXPECT_THAT(problem({"--profile", "chat", "--rate", "2", "--concurrency", "2"}),
              HasSubstr("--rate: 2, does nothing"));
  EXPECT_THAT(problem({"--profile", "chat", "--end-rate", "2"}), HasSubstr("--end-rate"));
  EXPECT_THAT(problem({"--profile", "chat", "--cv", "2"}), HasSubstr("--cv"));
  EXPECT_THAT(problem({"--profile", "paper", "--length-scale", "2"}), HasSubstr("--length-scale"));
}

}  // namespace
}  // namespace reprise::client::load
