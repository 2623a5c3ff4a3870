// A run second by second.
#pragma once

#include <vector>

#include "client/load/record.h"
#include "client/load/summary.h"

namespace reprise::client::load {

// A request counts as scheduled and sent in the seconds in which it was, all else in that in which
// it finished. `not_sent`: when requests were due that were never sent.
std::vector<Second> MakeTimeline(const std::vector<RequestRecord>& records,
                                 const std::vector<double>& not_sent);

}  // namespace reprise::client::load
