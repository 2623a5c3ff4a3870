#include "core/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace reprise {
namespace {

constexpr double kPi = std::numbers::pi;
constexpr size_t kEagerPairs = size_t{1} << 22;  // cosines made at once: 16 MiB
constexpr int32_t kReserveStep = 256;            // positions

// NTK-aware base for a context `factor` times the original one.
double DynamicTheta(const RopeConfig& rope, int32_t context_length) {
  const double original = rope.original_context > 0 ? rope.original_context : context_length;
  const double stretch = rope.factor * context_length / original - (rope.factor - 1);
  const double dims = rope.dimensions;
  return rope.theta * std::pow(std::max(stretch, 1.0), dims / (dims - 2));
}

double Llama3Frequency(const RopeConfig& rope, double frequency) {
  const double wavelength = 2 * kPi / frequency;
  const double original = rope.original_context;
  if (wavelength < original / rope.high_frequency_factor) return frequency;
  if (wavelength > original / rope.low_frequency_factor) return frequency / rope.factor;
  const double smooth = (original / wavelength - rope.low_frequency_factor) /
                        (rope.high_frequency_factor - rope.low_frequency_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

// The (fractional) pair whose wave turns `rotations` times over the original context.
double YarnCorrectionPair(const RopeConfig& rope, double rotations) {
  return rope.dimensions * std::log(rope.original_context / (rotations * 2 * kPi)) /
         (2 * std::log(rope.theta));
}

double YarnFrequency(const RopeConfig& rope, size_t pair, double frequency) {
  const double low = std::max(std::floor(YarnCorrectionPair(rope, rope.beta_fast)), 0.0);
  double high =
      std::min(std::ceil(YarnCorrectionPair(rope, rope.beta_slow)), rope.dimensions - 1.0);
  if (low == high) high += 0.001;
  const double ramp = std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
  return frequency / rope.factor * ramp + frequency * (1 - ramp);
}

double ScaledFrequency(const RopeConfig& rope, size_t pair, double frequency) {
  switch (rope.scaling) {
    case RopeConfig::Scaling::kLinear:
      return frequency / rope.factor;
    case RopeConfig::Scaling::kLlama3:
      return Llama3Frequency(rope, frequency);
    case RopeConfig::Scaling::kYarn:
      return YarnFrequency(rope, pair, frequency);
    case RopeConfig::Scaling::kNone:
    case RopeConfig::Scaling::kDynamic:
      return frequency;
  }
  return frequency;
}

}  // namespace

std::vector<double> RotaryFrequencies(const RopeConfig& rope, int32_t context_length) {
  const double theta = rope.scaling == RopeConfig::Scaling::kDynamic
                           ? DynamicTheta(rope, context_length)
                           : rope.theta;
  std::vector<double> frequencies(rope.dimensions / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double plain = std::pow(theta, -2.0 * static_cast<double>(i) / rope.dimensions);
    frequencies[i] = ScaledFrequency(rope, i, plain);
    if (!rope.frequency_factors.empty()) frequencies[i] /= double{rope.frequency_factors[i]};
  }
  return frequencies;
}

double RotaryAttentionFactor(const RopeConfig& rope) {
  if (rope.scaling != RopeConfig::Scaling::kYarn) return 1.0;
  if (rope.attention_factor > 0) return rope.attention_factor;
  return rope.factor <= 1 ? 1.0 : 0.1 * std::log(rope.factor) + 1.0;
}

RotaryTable::RotaryTable(const RopeConfig& rope, int32_t context_length)
    : half_(rope.dimensions / 2),
      context_length_(context_length),
      factor_(RotaryAttentionFactor(rope)),
      frequencies_(RotaryFrequencies(rope, context_length)) {
  Reserve(static_cast<int32_t>(std::min<size_t>(context_length, kEagerPairs / half_)));
}

void RotaryTable::Reserve(int32_t positions) {
  if (positions <= reserved_) return;
  const int32_t wanted = (positions - 1) / kReserveStep * kReserveStep + kReserveStep;
  const int32_t end = std::min(wanted, context_length_);
  for (int32_t position = reserved_; position < end; ++position) {
    for (const double frequency : frequencies_) {
      cosines_.push_back(static_cast<float>(std::cos(position * frequency) * factor_));
      sines_.push_back(static_cast<float>(std::sin(position * frequency) * factor_));
    }
  }
  reserved_ = end;
}

void RotaryTable::Rotate(float* head, int32_t position) const {
  const float* cosines = cosines_.data() + position * half_;
  const float* sines = sines_.data() + position * half_;
  for (size_t i = 0; i < half_; ++i) {
    const float a = head[i];
    const float b = head[i + half_];
    head[i] = a * cosines[i] - b * sines[i];
    head[i + half_] = b * cosines[i] + a * sines[i];
  }
}

}  // namespace reprise
