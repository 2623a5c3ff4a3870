// The buckets of histograms, by what is measured. In seconds.
#pragma once

#include <prometheus/histogram.h>

namespace reprise {

using Buckets = prometheus::Histogram::BucketBoundaries;

// Fine from 50 us, since a small model's look-up and queue are short.
inline const Buckets& FineBuckets() {
  static const Buckets* const buckets =
      new Buckets{0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                  0.05,    0.1,    0.25,    0.5,    1,     2.5,    5,     10};
  return *buckets;
}

inline const Buckets& LatencyBuckets() {
  static const Buckets* const buckets =
      new Buckets{0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1,
                  0.15,   0.25,  0.5,    0.75,  1,      2.5,  5,     7.5,   10,   30,    60};
  return *buckets;
}

// From seconds to a month: how old what is still reused gets.
inline const Buckets& AgeBuckets() {
  static const Buckets* const buckets =
      new Buckets{1, 10, 60, 300, 1800, 3600, 21600, 86400, 259200, 604800, 2592000};
  return *buckets;
}

}  // namespace reprise
