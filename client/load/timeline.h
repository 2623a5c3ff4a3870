// A run second by second.
#pragma once

#include <vector>

#include "client/load/record.h"
#include "client/load/summary.h"

namespace reprise::client::load {

// A request counts as sent in the second of its sending, all else in that in which it finished.
std::vector<Second> MakeTimeline(const std::vector<RequestRecord>& records);

}  // namespace reprise::client::load
