// Sequence: one request on its way through the engine.
//
// States     Queued → (Embedding) → Lookup → (Sharing → Lookup) → (Loading) → Running →
//            Done. Sharing waits for a prefix that another sequence computes. A Running
//            sequence that is preempted goes back to Queued with its tokens kept.
// Threading  owned by the engine thread.
#pragma once

#include <atomic>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/engine/prompt_lookup.h"
#include "core/engine/request.h"
#include "core/engine/reuse_planner.h"
#include "core/engine/split_load.h"
#include "core/store/kv_store.h"
#include "core/text/incremental_text.h"

namespace reprise {

struct CacheNamespace;

enum class SequenceState { kQueued, kEmbedding, kSharing, kLoading, kRunning, kDone };

// The bytes that a load has read for its sequence. Once that has ended and been
// accounted for, nothing is added: what is counted equals what the accounts say.
//
// Threading  the reader thread adds, the engine thread closes.
class LoadAccount {
 public:
  // False: closed; the load may stop.
  bool Add(int64_t bytes) {
    int64_t seen = bytes_.load();
    while (seen != kClosed && !bytes_.compare_exchange_weak(seen, seen + bytes)) {
    }
    return seen != kClosed;
  }
  bool closed() const { return bytes_.load() == kClosed; }

  // To be called once: what was added.
  int64_t Close() { return bytes_.exchange(kClosed); }

  // When the reader thread took it up; none: it still waits for its turn.
  void Begin(absl::Duration now) { began_ = absl::ToInt64Nanoseconds(now); }
  std::optional<absl::Duration> began() const {
    const int64_t began = began_.load();
    if (began == kNotBegun) return std::nullopt;
    return absl::Nanoseconds(began);
  }

 private:
  static constexpr int64_t kClosed = -1;
  static constexpr int64_t kNotBegun = std::numeric_limits<int64_t>::min();
  std::atomic<int64_t> bytes_{0};
  std::atomic<int64_t> began_{kNotBegun};
};

// What a load job brought back: segments in order up to the first failure.
struct LoadResult {
  std::vector<SegmentRecord> records;
  std::vector<std::vector<uint8_t>> payloads;
  absl::Status status;
  absl::Duration elapsed;
  int64_t bytes = 0;
  PayloadCodec codec = PayloadCodec::kRaw;  // the one that loses most
  bool given_up = false;                    // it stalled: its request went on without it
};

// Of a sequence that asks for drafts.
struct Speculation {
  explicit Speculation(const PromptLookupOptions& options)
      : lookup(options), pace(options.max_draft_tokens) {}

  PromptLookup lookup;  // of the sequence's tokens
  DraftPace pace;
  std::vector<TokenId> draft;  // of the step at hand
};

struct Sequence {
  Sequence(SequenceId id, GenerateRequest request, GenerationSink sink, const Tokenizer* tokenizer)
      : id(id),
        request(std::move(request)),
        sink(std::move(sink)),
        tokens(this->request.prompt),
        detokenizer(tokenizer),
        stops(this->request.stop_sequences) {
    if (this->request.ignore_eos && tokenizer->eos_id()) banned.push_back(*tokenizer->eos_id());
    if (this->request.speculation) speculation.emplace(*this->request.speculation);
  }

  SequenceId id;
  size_t spec = 0;                  // of its tenant's namespace
  CacheNamespace* cache = nullptr;  // its tenant's; set once the engine thread has it
  GenerateRequest request;
  GenerationSink sink;
  SequenceState state = SequenceState::kQueued;
  bool counted_as_queued = true;
  int32_t passed_over = 0;  // while queued: times that a later one was taken up
  bool looked_up = false;   // reuse was decided; a preempted sequence keeps its account

  std::vector<TokenId> tokens;  // prompt, then output
  std::vector<BlockId> blocks;  // cover the computed tokens; the last may be private
  int32_t computed = 0;         // positions whose KV is in `blocks`
  int32_t prompt_reached = 0;   // most prompt positions that `computed` has covered
  int32_t ahead = 0;            // accepted positions past them whose tokens are not taken yet

  std::shared_ptr<LoadAccount> load;  // while kLoading
  ReusePlan load_plan;                // while kLoading: what is loaded
  std::shared_ptr<SplitLoad> split;   // while computed and loaded at once

  // Of what was decided against; what took longer than that is regretted.
  absl::Duration predicted_alternative = absl::InfiniteDuration();

  int64_t taken_up = 0;                   // order in which look-ups began
  std::shared_ptr<Sequence> shared_from;  // while kSharing: who computes what it waits for
  int32_t shared_tokens = 0;              // that one then has computed
  std::optional<int32_t> ready_tokens;    // in memory before the first wait

  std::vector<TokenId> banned;  // never sampled (ignore_eos)

  std::optional<std::vector<float>> embedding;  // of the prompt, once made
  std::vector<Neighbor> neighbors;              // SEMANTIC: the nearest cached prompts
  bool nearest_evicted = false;                 // nearer ones were, whose KV is gone

  std::optional<Speculation> speculation;  // none: one token a step

  IncrementalDetokenizer detokenizer;
  StopMatcher stops;
  GenerateResult result;

  absl::Duration submitted, lookup_started, wait_started, load_started, prefill_started,
      first_token, last_token;

  int32_t prompt_size() const { return static_cast<int32_t>(request.prompt.size()); }
  int32_t pending() const { return static_cast<int32_t>(tokens.size()) - computed; }
  bool decoding() const { return !result.output_ids.empty() && pending() == 1; }
  bool caches() const {
    return request.cache_policy == CachePolicy::kUse || request.cache_policy == CachePolicy::kForce;
  }
  bool looks_up() const { return request.cache_policy != CachePolicy::kBypass; }
};

}  // namespace reprise
