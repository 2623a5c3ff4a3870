// Random numbers that are the same on every machine: the standard library's
// distributions differ between libraries.
//
// Threading  one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace reprise::client::load {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next();                // splitmix64
  double Unit();                  // in (0, 1)
  int Within(int low, int high);  // both included
  double Exponential(double mean);
  double Normal();  // mean 0, standard deviation 1
  double LogNormal(double median, double sigma);
  double Gamma(double shape);  // scale 1; Marsaglia and Tsang 2000

  // `count` token ids, at least one, in [0, vocabulary_size).
  std::vector<int32_t> Ids(int count, int vocabulary_size);

 private:
  uint64_t state_;
};

// Draws 0 to count - 1, the i-th with a probability that falls as (i + 1)^-exponent.
class Zipf {
 public:
  Zipf(int count, double exponent);
  size_t Draw(Random& random) const;

 private:
  double total_ = 0;
  std::vector<double> sums_;
};

}  // namespace reprise::client::load
