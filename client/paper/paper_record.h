// One request of the paper's experiment, and its line in a CSV file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client/paper/prompt_calls.h"

namespace reprise::client {

// Milliseconds. `client` is the caller's clock, the others are the server's.
struct PaperTimes {
  double client = 0, total = 0, first_token = 0;
  double tokenize = 0, queue = 0, lookup = 0, load = 0, actual_load = 0, prefill = 0, decode = 0;
};

// How near two outputs are by sentence embedding, [-1, 1]: the new tokens; as many of them as
// the shorter has; what the published code compared, which is all that generate() returned.
struct OutputSimilarity {
  double new_tokens = 0, equal_lengths = 0, as_published = 0;
};

struct PaperRow {
  std::string set;   // paper, unrelated, depth, generated
  std::string arm;   // B, P0, P1, P2; on the runner, without a server, RB and RP1
  std::string ends;  // eos: a reply may end early; length: end of text is ignored
  int repeat = 0;
  int prompt = 0;  // index in its set
  std::string label;
  int prompt_tokens = 0, common_tokens = 0, reused_tokens = 0, disk_tokens = 0, output_tokens = 0;
  std::optional<double> prompt_similarity;  // of the retrieved prompt, where one was looked for
  PaperTimes times;
  std::string finish;
  Ids output;
  std::string reply;
  std::optional<OutputSimilarity> similarity;  // with the cold reply
  std::string fed;  // P0 and RP1: "id@position" of what is computed of the prompt
};

std::string PaperCsvHeader();
std::string ToCsv(const PaperRow& row);

}  // namespace reprise::client
