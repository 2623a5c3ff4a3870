// EngineHarness: an engine over fakes, with what a test needs to look into it: a
// clock that the model's steps move, a gate before each step, a store that
// outlives the engine, and faults.
//
// Threading  one thread owns it; the gate may be used from any.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/engine/engine.h"
#include "tests/fakes/faulty_store.h"
#include "tests/fakes/gate.h"
#include "tests/fakes/simulated_clock.h"

namespace reprise {

struct HarnessOptions {
  HarnessOptions() { engine.flush_after_idle = absl::ZeroDuration(); }

  EngineOptions engine;
  int32_t num_blocks = 256;
  int32_t context_length = 2048;
  int32_t hashed_ids = 0;                             // see ScriptedRunnerOptions
  absl::Duration token_time = absl::Milliseconds(1);  // of the model, for each row of a step
  absl::Duration step_time;                           // on top, for each step
  bool with_store = true;
  bool with_similarity = true;
  std::vector<NamespaceSpec> namespaces;       // the first with the harness's Identity()
  const Tokenizer* tokenizer = nullptr;        // default: the byte tokenizer
  std::function<absl::Status()> fail_step;     // see ScriptedRunnerOptions
  std::function<absl::Status()> before_embed;  // not OK: no embedding
};

// Embeddings wait at `gate`, which outlives the harness.
inline HarnessOptions EmbeddingBehind(Gate& gate) {
  HarnessOptions options;
  options.before_embed = [&gate] {
    gate.Pass();
    return absl::OkStatus();
  };
  return options;
}

struct Reply {
  absl::Status status;
  GenerateResult result;
  std::string streamed;  // the chunks' text
  std::vector<TokenId> streamed_ids;
};

struct PendingReply {
  SequenceId id = 0;
  std::future<Reply> reply;
};

class EngineHarness {
 public:
  explicit EngineHarness(HarnessOptions options = {});
  ~EngineHarness();

  // Submits a request that must be accepted.
  PendingReply Submit(const GenerateRequest& request);
  Reply Run(const GenerateRequest& request) { return Submit(request).reply.get(); }
  absl::Status Refusal(const GenerateRequest& request);
  bool IsDraining();

  // Until nothing runs and all is written and embedded; then the cache's state.
  CacheStats Settle();

  // Ends the engine; what is in the store stays.
  void Stop() { engine_.reset(); }
  void Start();
  void Restart() {
    Stop();
    Start();
  }

  // Fills the vector index from the stored prompts, as the server does at its start.
  void RestoreVectors();

  static Digest Identity();  // of the engine's namespace

  HarnessOptions& options() { return options_; }  // for the next Start
  Engine& engine() { return *engine_; }
  Gate& gate() { return gate_; }
  SimulatedClock& clock() { return clock_; }
  StoreFaults& faults() { return *faults_; }
  KvStore& store() { return *store_; }
  VectorIndex& vectors() { return *vectors_; }  // the engine's
  Gate& search_gate() { return search_gate_; }  // before each search of it
  int steps() const { return steps_; }
  int rows() const { return rows_; }                  // of all steps
  int largest_step() const { return largest_step_; }  // rows
  std::vector<std::string> events() const;            // names, in order
  std::vector<StepTrace> traces() const;
  int embeddings() const { return embeddings_; }
  int embedding_batches() const { return embedding_batches_; }

  // The sum over the label sets of a metric whose labels contain `label`.
  double Metric(const std::string& name, const std::string& label = "") const;

 private:
  HarnessOptions options_;
  std::unique_ptr<Tokenizer> bytes_;
  Metrics metrics_;
  mutable std::mutex events_mutex_;
  std::vector<std::string> events_;
  std::vector<StepTrace> traces_;
  SimulatedClock clock_;
  Gate gate_, search_gate_;
  std::atomic<int> steps_{0}, rows_{0};
  std::atomic<int> largest_step_{0};
  std::atomic<int> embeddings_{0};
  std::atomic<int> embedding_batches_{0};
  std::shared_ptr<KvStore> store_;
  std::shared_ptr<StoreFaults> faults_ = std::make_shared<StoreFaults>();
  VectorIndex* vectors_ = nullptr;
  std::unique_ptr<Engine> engine_;
};

// A request of a text, one id a byte.
GenerateRequest TextRequest(const std::string& text, int32_t max_output_tokens,
                            CachePolicy policy = CachePolicy::kUse);

// `length` letters that look random and depend on `seed`.
std::string Letters(uint32_t seed, int length);

}  // namespace reprise
