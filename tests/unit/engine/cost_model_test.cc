#include "core/engine/cost_model.h"

#include <gtest/gtest.h>

#include "tests/fakes/scripted_runner.h"
#include "tests/fakes/simulated_clock.h"

namespace reprise {
namespace {

// A device whose every pass takes max(w, a1 n) + a2 n (c + n / 2).
class CostModelTest : public testing::Test {
 protected:
  static constexpr double kPass = 0.004, kToken = 0.001, kPair = 2e-6;

  std::unique_ptr<ModelRunner> Device(ScriptedRunnerOptions options) {
    options.before_step = [this](const StepBatch& batch) {
      const auto n = static_cast<double>(batch.sequences[0].tokens.size());
      const double c = batch.sequences[0].start_position;
      clock_.Advance(absl::Seconds(Law(n, c)));
      ++passes_;
    };
    return CreateScriptedRunner(options);
  }

  static double Law(double n, double c) {
    return std::max(kPass, kToken * n) + kPair * n * (c + n / 2);
  }

  double Prefill(int32_t n, int32_t c) const {
    return absl::ToDoubleSeconds(costs_.PredictPrefill(n, c));
  }
  double Load(int64_t bytes) const { return absl::ToDoubleSeconds(costs_.PredictLoad(bytes)); }

  SimulatedClock clock_;
  CostModel costs_;
  int passes_ = 0;
};

TEST_F(CostModelTest, CalibrationFindsTheDevicesLaw) {
  const auto runner = Device({});
  ASSERT_TRUE(costs_.Calibrate(*runner, clock_).ok());
  const std::pair<int32_t, int32_t> points[] = {{1, 0}, {2, 500}, {64, 0}, {256, 256}, {500, 1500}};
  for (const auto& [n, c] : points) {
    EXPECT_NEAR(Prefill(n, c) / Law(n, c), 1.0, 0.15) << n << " behind " << c;
  }
}

TEST_F(CostModelTest, ShortPassesCostTheReadingOfTheWeights) {
  const auto runner = Device({});
  ASSERT_TRUE(costs_.Calibrate(*runner, clock_).ok());
  EXPECT_NEAR(Prefill(1, 0), Prefill(3, 0), kPass * 0.05);
  EXPECT_GT(Prefill(16, 0), Prefill(3, 0) * 2);
}

TEST_F(CostModelTest, PoolTooSmallToMeasureKeepsThePriors) {
  const double prior = Prefill(100, 0);
  const auto runner = Device({.num_blocks = 11});
  ASSERT_TRUE(costs_.Calibrate(*runner, clock_).ok());
  EXPECT_EQ(passes_, 0);
  EXPECT_EQ(Prefill(100, 0), prior);
}

TEST_F(CostModelTest, FailingDeviceFailsCalibration) {
  const auto runner = Device({.fail_step = [] { return absl::InternalError("fault"); }});
  EXPECT_EQ(costs_.Calibrate(*runner, clock_).code(), absl::StatusCode::kInternal);
}

TEST_F(CostModelTest, ObservedPrefillsMoveAllPredictionsTowardsThem) {
  const double before = Prefill(100, 0), longer = Prefill(1000, 50);
  for (int i = 0; i < 100; ++i) costs_.ObservePrefill(100, 0, absl::Seconds(3 * before));
  EXPECT_NEAR(Prefill(100, 0), 3 * before, before * 0.01);
  EXPECT_NEAR(Prefill(1000, 50), 3 * longer, longer * 0.01);
}

TEST_F(CostModelTest, ObservationsTellLongPromptsFromDeepOnes) {
  const auto runner = Device({});
  ASSERT_TRUE(costs_.Calibrate(*runner, clock_).ok());
  // The device turns out to take four times as long for each pair, and for rows what it took.
  const auto law = [](double n, double c) { return Law(n, c) + 3 * kPair * n * (c + n / 2); };
  for (int i = 0; i < 300; ++i) {
    costs_.ObservePrefill(256, 0, absl::Seconds(law(256, 0)));
    costs_.ObservePrefill(256, 1700, absl::Seconds(law(256, 1700)));
  }
  for (const auto& [n, c] : {std::pair{64, 0}, {256, 1000}, {500, 1500}}) {
    EXPECT_NEAR(Prefill(n, c) / law(n, c), 1.0, 0.1) << n << " behind " << c;
  }
}

TEST_F(CostModelTest, OneOddObservationIsBounded) {
  const double before = Prefill(100, 0);
  costs_.ObservePrefill(100, 0, absl::Hours(1));
  EXPECT_LT(Prefill(100, 0), 4 * before);
  const double load = Load(1 << 20);
  costs_.ObserveLoad(1 << 20, absl::Hours(1));
  EXPECT_LT(Load(1 << 20), 4 * load);
}

TEST_F(CostModelTest, DecodingTakesWhatStepsOfItsSizeTook) {
  const auto runner = Device({});
  ASSERT_TRUE(costs_.Calibrate(*runner, clock_).ok());
  const auto decode = [&](int32_t rows) { return absl::ToDoubleSeconds(costs_.DecodeStep(rows)); };
  EXPECT_NEAR(decode(8), kPass, kPass * 0.05) << "nothing was observed";
  for (int i = 0; i < 100; ++i) {
    costs_.ObserveDecode(2, absl::Milliseconds(5));
    costs_.ObserveDecode(9, absl::Milliseconds(20));
  }
  struct Case {
    int32_t rows;
    double seconds;
  };
  for (const Case& c :
       {Case{1, kPass}, Case{3, 0.005}, Case{7, 0.005}, Case{8, 0.020}, Case{500, 0.020}}) {
    EXPECT_NEAR(decode(c.rows), c.seconds, c.seconds * 0.05) << c.rows << " rows";
  }
  costs_.ObserveDecode(2, absl::Hours(1));
  EXPECT_LT(decode(2), 0.015) << "one odd observation is bounded";
}

TEST_F(CostModelTest, PromptRowsFitTheTimeThatDecodingStreamsCanWait) {
  const auto runner = Device({});
  ASSERT_TRUE(costs_.Calibrate(*runner, clock_).ok());
  struct Case {
    double extra;
    int32_t cached, rows;
  };
  for (const Case& c : {Case{0.020, 0, 20}, Case{0.020, 500, 10}, Case{0.0001, 0, 1}, Case{0, 0, 1},
                        Case{-1, 0, 1}}) {
    EXPECT_NEAR(costs_.PromptRowsWithin(absl::Seconds(c.extra), c.cached), c.rows, c.rows / 5)
        << c.extra << " seconds behind " << c.cached;
  }
}

TEST_F(CostModelTest, ObservedPromptRowsCorrectTheirNumber) {
  const auto runner = Device({});
  ASSERT_TRUE(costs_.Calibrate(*runner, clock_).ok());
  for (int i = 0; i < 200; ++i) costs_.ObservePromptRows(10, 0, absl::Seconds(10 * 4 * kToken));
  EXPECT_NEAR(costs_.PromptRowsWithin(absl::Milliseconds(80), 0), 20, 2) << "four times as slow";
  for (int i = 0; i < 200; ++i) costs_.ObservePromptRows(10, 0, -absl::Seconds(1));
  EXPECT_GT(costs_.PromptRowsWithin(absl::Milliseconds(80), 0), 80) << "as good as free";
  EXPECT_LT(costs_.PromptRowsWithin(absl::Milliseconds(80), 0), 80 * 25) << "but bounded";
}

TEST_F(CostModelTest, ObservedLoadsTeachTheBandwidth) {
  constexpr int64_t kBytes = 100 << 20;
  const absl::Duration slow = absl::Seconds(2);
  for (int i = 0; i < 200; ++i) costs_.ObserveLoad(kBytes, slow);
  EXPECT_NEAR(Load(kBytes), 2.0, 0.02);
  EXPECT_NEAR(Load(kBytes / 2), 1.0, 0.02);
}

TEST_F(CostModelTest, ALoadOfManyReadsIsBelievedAtOnce) {
  constexpr int64_t kBytes = 100 << 20;  // the prior is a tenth of a second
  costs_.ObserveLoad(kBytes, absl::Seconds(2), 16);
  EXPECT_GT(Load(kBytes), 1.5);
  EXPECT_LT(Load(kBytes), 2.0);
}

TEST_F(CostModelTest, NothingToLoadCostsNothing) {
  EXPECT_EQ(Load(0), 0.0);
  const double load = Load(1000);
  costs_.ObserveLoad(0, absl::Seconds(1));
  costs_.ObserveLoad(1000, absl::ZeroDuration());
  EXPECT_EQ(Load(1000), load);
}

}  // namespace
}  // namespace reprise
