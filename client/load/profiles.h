// The bundled workloads. Lengths are those of a window of 8192 tokens times the
// model's window over 8192, at least 8 tokens; the same options give the same sessions.
//
//   chat         sessions of some turns behind one of 20 system prompts
//   api          calls of 8 templates with something of their own
//   doc-qa       questions about passages of 200 documents
//   long-chat    sessions of 200 turns, several windows long: the client drops their oldest turns
//   cold         nothing twice
//   paper        texts and texts that begin with them, 10 and 6 at a time (arXiv 2512.11851)
//   adversarial  what breaks caches: near prefixes, merges across the border of texts, the same
//                prompt again, prompts as long as the window, bursts of one prompt, two tenants
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/load/schedule.h"
#include "client/load/workload.h"

namespace reprise::client::load {

struct ProfileOptions {
  int32_t context_length = 0;   // the model's
  int32_t vocabulary_size = 0;  // the model's
  uint64_t seed = 1;
  double length_scale = 1;     // over that of the window
  bool second_tenant = false;  // adversarial: there are credentials of another tenant
};

// Of all profiles, as they are written on the command line.
const std::vector<std::string>& ProfileNames();

// How a profile's sessions arrive unless the caller says so.
Arrival ProfileArrival(absl::string_view name);

// kInvalidArgument: no such profile, or a window of fewer than 64 tokens.
absl::StatusOr<std::unique_ptr<SessionSource>> CreateProfile(absl::string_view name,
                                                             ProfileOptions options);

}  // namespace reprise::client::load
