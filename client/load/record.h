// What is known of one request of a load test. docs/bench.md has the fields.
//
// Units  seconds since the start of the run on the client's monotonic clock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "reprise/inference/v1/generation.pb.h"

namespace reprise::client::load {

struct RequestRecord {
  int64_t index = 0;
  std::string request_id;
  int64_t session = 0;
  int turn = 0;
  std::string label;
  int channel = 0;
  bool measured = true;    // not within the warm-up
  bool held_back = false;  // the limit of requests in flight delayed it
  double scheduled = 0;
  double sent = 0;
  double finished = 0;
  std::vector<double> chunk_times;  // of chunks with tokens, ascending
  int64_t received_tokens = 0;
  std::string code;  // "OK"
  std::string error;
  bool cancel_planned = false;
  bool cancelled = false;  // by the client, as planned
  bool aborted = false;    // by the client, at the end of the run
  std::optional<int64_t> asked_prompt_tokens;
  int64_t asked_output_tokens = 0;
  // Without texts, ids and seed; nothing unless the request completed.
  std::optional<inference::v1::Generation> reply;

  bool completed() const { return reply.has_value(); }
  bool failed() const { return !completed() && !cancelled && !aborted; }
  bool warm() const { return completed() && reply->usage().cached_token_count() > 0; }
};

// Milliseconds, nothing where the request did not come so far.
std::optional<double> ClientTtft(const RequestRecord& record);
std::optional<double> ClientTtftScheduled(const RequestRecord& record);
std::optional<double> ClientTpot(const RequestRecord& record);
std::vector<double> InterChunkGaps(const RequestRecord& record);

// The line of requests.jsonl, without its end.
std::string RecordJson(const RequestRecord& record);

}  // namespace reprise::client::load
