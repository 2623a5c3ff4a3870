// The paper's experiment over gRPC. Arms:
//   B   cold: nothing is looked up
//   P1  correct reuse: the prefix is in memory, found token by token
//   P2  correct reuse as the paper's flow has it: a sentence embedding and a vector search find
//       the cached prompt and its KV is loaded from the store, all inside the timer
// What the published call computes instead (P0) is no way of this server; tests/bench has it.
//
// Each round asks every prompt in every arm, the arms in turns, on a cache that holds the cached
// prompts and nothing else: all entries of the caller's tenant are purged, again and again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "client/paper/paper_prompts.h"
#include "client/paper/paper_record.h"

namespace reprise::client {

struct PaperOptions {
  std::string cache_prompts = "tests/data/paper/cache_prompts.csv";
  std::string test_prompts = "tests/data/paper/test_prompts.csv";
  // Asked with the others where replies are of equal length, else where they may end early.
  std::string unrelated_prompts = "tests/data/paper/unrelated_prompts.csv";
  int repeats = 30;         // rounds of the paper's prompts
  int output_tokens = 100;  // most tokens of a reply that may end early; 0: leaves that out
  int equal_tokens = 32;    // tokens of every reply where end of text is ignored; 0: leaves it out
  int depth_repeats = 10;   // rounds of prompts of 16 to 512 cached tokens
  int generated = 1000;     // prompts, once, in B and P1
  int generated_tokens = 16;
  int concurrency = 16;  // of the generated prompts, whose times say nothing then
  uint32_t seed = 20251211;
  bool purge = false;  // whether what the caller's tenant has cached may go
};

struct PaperReport {
  inference::v1::Model model;
  std::vector<PaperRow> rows;
};

// Progress goes to standard error. Errors  as the client's calls; kFailedPrecondition: something
// is cached and may not go, there is no store, or memory holds more than one prompt displaces.
absl::StatusOr<PaperReport> RunPaper(Client& client, const PaperOptions& options);

// What must hold: every warm reply is the cold one token for token, every cold one repeats
// itself, P1 reused all it could, and what P2 reused came from the store, but for what prompts
// before it share. Empty, or what does not hold.
std::vector<std::string> PaperFailures(const std::vector<PaperRow>& rows);

// Counts and medians by set and arm.
std::string PaperText(const std::vector<PaperRow>& rows);

}  // namespace reprise::client
