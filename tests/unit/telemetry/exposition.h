// Parses the Prometheus text exposition format 0.0.4, and records an event of
// each kind so that every metric family is there.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/telemetry/metrics.h"

namespace reprise {

struct Sample {
  std::string name;  // of a histogram: with _bucket, _sum or _count
  std::map<std::string, std::string> labels;
  double value = 0;
};

struct MetricFamily {
  std::string help;
  std::string type;
  std::vector<Sample> samples;

  std::set<std::string> LabelNames() const;  // less a histogram's own "le"
};

// By name. What does not follow the format is a test failure.
std::map<std::string, MetricFamily> ParseExposition(const std::string& text);

// Of metrics.Serialize(): the sum over all samples called `name`, whatever their labels.
double SumOf(const Metrics& metrics, const std::string& name);

// One RPC with every field set and no two counts alike.
RequestSummary FullSummary();

void RecordEverything(Metrics& metrics);

}  // namespace reprise
