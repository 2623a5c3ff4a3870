#include "tests/unit/engine/engine_harness.h"

#include <algorithm>
#include <random>
#include <stdexcept>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "core/similarity/brute_force_index.h"
#include "core/store/memory_store.h"
#include "core/text/byte_tokenizer.h"
#include "tests/fakes/letter_embedding.h"
#include "tests/fakes/scripted_runner.h"

namespace reprise {
namespace {

// An index whose searches pass a gate, as slow as a test likes.
class GatedIndex final : public VectorIndex {
 public:
  explicit GatedIndex(Gate* gate) : gate_(gate) {}

  absl::Status Add(uint64_t id, absl::Span<const float> vector) override {
    return index_->Add(id, vector);
  }
  absl::Status Remove(uint64_t id) override { return index_->Remove(id); }
  absl::StatusOr<std::vector<Neighbor>> Search(absl::Span<const float> query,
                                               int count) const override {
    gate_->Pass();
    return index_->Search(query, count);
  }
  bool Contains(uint64_t id) const override { return index_->Contains(id); }
  bool Holds(uint64_t id, absl::Span<const float> vector) const override {
    return index_->Holds(id, vector);
  }
  std::vector<uint64_t> Ids() const override { return index_->Ids(); }
  int64_t size() const override { return index_->size(); }
  int dimensions() const override { return index_->dimensions(); }
  absl::Status Save(const std::string& path) const override { return index_->Save(path); }

 private:
  Gate* const gate_;
  const std::unique_ptr<VectorIndex> index_ = CreateBruteForceIndex(kLetterDimensions);
};

}  // namespace

EngineHarness::EngineHarness(HarnessOptions options)
    : options_(std::move(options)), bytes_(CreateByteTokenizer()), store_(CreateMemoryStore()) {
  Start();
}

EngineHarness::~EngineHarness() {
  gate_.Open();
  search_gate_.Open();
  faults_->OpenGates();
}

Digest EngineHarness::Identity() {
  Digest identity;
  identity.fill(7);
  return identity;
}

void EngineHarness::Start() {
  ScriptedRunnerOptions runner;
  runner.num_blocks = options_.num_blocks;
  runner.context_length = options_.context_length;
  runner.hashed_ids = options_.hashed_ids;
  runner.fail_step = options_.fail_step;
  runner.before_step = [this](const StepBatch& batch) {
    gate_.Pass();
    ++steps_;
    int rows = 0;
    for (const StepSequence& sequence : batch.sequences) {
      rows += static_cast<int>(sequence.tokens.size() + sequence.draft.size());
    }
    rows_ += rows;
    largest_step_ = std::max<int>(largest_step_, rows);
    clock_.Advance(options_.step_time + options_.token_time * rows);
  };
  EngineParts parts;
  parts.runner = CreateScriptedRunner(runner);
  if (options_.with_store) parts.store = CreateFaultyStore(store_, faults_);
  if (options_.with_similarity) {
    parts.vectors = std::make_unique<GatedIndex>(&search_gate_);
    vectors_ = parts.vectors.get();
    parts.embed = [this](const std::string& text) -> absl::StatusOr<std::vector<float>> {
      if (options_.before_embed) RETURN_IF_ERROR(options_.before_embed());
      ++embeddings_;
      return EmbedLetters(text);
    };
    parts.embed_batch = [embed = parts.embed, this](absl::Span<const std::string> texts)
        -> absl::StatusOr<std::vector<std::vector<float>>> {
      ++embedding_batches_;
      std::vector<std::vector<float>> vectors;
      for (const std::string& text : texts) {
        ASSIGN_OR_RETURN(vectors.emplace_back(), embed(text));
      }
      return vectors;
    };
  }
  parts.tokenizer = options_.tokenizer != nullptr ? options_.tokenizer : bytes_.get();
  parts.metrics = &metrics_;
  parts.clock = &clock_;
  parts.on_event = [this](const EngineEvent& event) {
    const std::lock_guard lock(events_mutex_);
    events_.push_back(event.name);
  };
  parts.on_step = [this](const StepTrace& trace) {
    const std::lock_guard lock(events_mutex_);
    traces_.push_back(trace);
  };
  parts.identity = Identity();
  parts.namespaces = options_.namespaces;
  if (options_.with_similarity) {
    parts.new_vectors = [] { return CreateBruteForceIndex(kLetterDimensions); };
  }
  auto engine = Engine::Create(options_.engine, std::move(parts));
  if (!engine.ok()) throw std::runtime_error(std::string(engine.status().message()));
  engine_ = *std::move(engine);
  steps_ = largest_step_ = 0;  // those of the calibration do not count
}

void EngineHarness::RestoreVectors() {
  const auto add = [this](const PromptRecord& prompt) {
    vectors_->Add(prompt.id, prompt.embedding).IgnoreError();
  };
  store_->ForEachPrompt(Identity(), add).IgnoreError();
}

PendingReply EngineHarness::Submit(const GenerateRequest& request) {
  const auto reply = std::make_shared<Reply>();
  const auto promise = std::make_shared<std::promise<Reply>>();
  GenerationSink sink;
  sink.on_chunk = [reply](const TokenChunk& chunk) {
    reply->streamed += chunk.text;
    reply->streamed_ids.insert(reply->streamed_ids.end(), chunk.ids.begin(), chunk.ids.end());
  };
  sink.on_done = [reply, promise](const absl::Status& status, GenerateResult result) {
    // A status of its own: ThreadSanitizer does not see how a packaged abseil counts references.
    reply->status = absl::Status(status.code(), status.message());
    reply->result = std::move(result);
    promise->set_value(std::move(*reply));  // throws when called twice
  };
  PendingReply pending;
  pending.reply = promise->get_future();
  GenerateRequest received = request;
  received.received = clock_.Monotonic();
  const auto id = engine_->Submit(std::move(received), std::move(sink));
  if (!id.ok()) throw std::runtime_error(std::string(id.status().message()));
  pending.id = *id;
  return pending;
}

absl::Status EngineHarness::Refusal(const GenerateRequest& request) {
  GenerationSink sink;
  sink.on_chunk = [](const TokenChunk&) { throw std::logic_error("a refused request spoke"); };
  sink.on_done = [](const absl::Status&, const GenerateResult&) {
    throw std::logic_error("a refused request ended");
  };
  return engine_->Submit(request, std::move(sink)).status();
}

bool EngineHarness::IsDraining() {
  GenerationSink sink;
  sink.on_chunk = [](const TokenChunk&) {};
  sink.on_done = [](const absl::Status&, const GenerateResult&) {};
  const auto id = engine_->Submit(TextRequest("#", 0, CachePolicy::kBypass), std::move(sink));
  return absl::IsUnavailable(id.status());
}

CacheStats EngineHarness::Settle() {
  engine_->GetCacheStats();  // wakes the engine: it need not sleep before it flushes
  if (!engine_->WaitUntilIdle(absl::Seconds(60))) throw std::runtime_error("never idle");
  return engine_->GetCacheStats();
}

std::vector<std::string> EngineHarness::events() const {
  const std::lock_guard lock(events_mutex_);
  return events_;
}

std::vector<StepTrace> EngineHarness::traces() const {
  const std::lock_guard lock(events_mutex_);
  return traces_;
}

double EngineHarness::Metric(const std::string& name, const std::string& label) const {
  double sum = 0;
  for (const absl::string_view line : absl::StrSplit(metrics_.Serialize(), '\n')) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    const bool same = parts[0] == name || absl::StartsWith(parts[0], name + "{");
    double value = 0;
    if (same && absl::StrContains(parts[0], label) && absl::SimpleAtod(parts[1], &value)) {
      sum += value;
    }
  }
  return sum;
}

GenerateRequest TextRequest(const std::string& text, int32_t max_output_tokens,
                            CachePolicy policy) {
  GenerateRequest request;
  request.prompt.assign(text.begin(), text.end());
  request.prompt_text = text;
  request.max_output_tokens = max_output_tokens;
  request.cache_policy = policy;
  return request;
}

std::string Letters(uint32_t seed, int length) {
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < length; ++i) text.push_back(static_cast<char>('a' + random() % 26));
  return text;
}

}  // namespace reprise
