#include <algorithm>

#include "core/engine/engine_impl.h"

namespace reprise {
namespace {

constexpr size_t kMaxPendingEmbeddings = 1024;  // prompts; the oldest gives way
constexpr int64_t kMaxUnsaved = 4096;           // vectors; a start adds them in a moment

}  // namespace

// On the embedding thread, as all that searches the index, which takes time.
absl::StatusOr<std::vector<float>> EngineImpl::RunEmbed(const std::string& text) {
  if (!SimilarityOn()) return absl::UnavailableError("similarity search is off");
  const absl::Duration start = Now();
  auto embedding = parts_.embed(text);
  if (embedding.ok()) {
    parts_.metrics->EmbeddingFinished(Now() - start);
  } else {
    parts_.metrics->EmbeddingFailed();
  }
  return embedding;
}

// On the embedding thread; `done` runs on the engine's.
void EngineImpl::FindNearest(const std::string& text, int wanted, const NearestTask& done) {
  auto embedding = RunEmbed(text);
  if (embedding.ok()) return SearchNearest({*std::move(embedding), {}, false, wanted}, done);
  Post([done, status = embedding.status()] { done(status); });
}

// Again and again until no neighbour is a prompt whose KV is gone, so that such a
// one never takes the place of one that can be reused.
void EngineImpl::SearchNearest(Nearest nearest, const NearestTask& done) {
  auto found = parts_.vectors->Search(nearest.embedding, nearest.wanted);
  nearest.neighbors = found.ok() ? *std::move(found) : std::vector<Neighbor>();
  Post([this, done, nearest = std::move(nearest)]() mutable {
    std::vector<uint64_t> evicted = ForgetEvictedPrompts(nearest.neighbors);
    if (evicted.empty()) return done(std::move(nearest));
    nearest.evicted = true;
    embedder_->Post([this, done, nearest = std::move(nearest), evicted = std::move(evicted)] {
      bool removed = true;
      for (const uint64_t id : evicted) removed = parts_.vectors->Remove(id).ok() && removed;
      if (removed) return SearchNearest(nearest, done);
      Post([done] { done(absl::InternalError("the vector index cannot remove a vector")); });
    });
  });
}

void EngineImpl::Embed(const SequencePtr& sequence) {
  sequence->state = SequenceState::kEmbedding;
  waiting_.push_back(sequence);
  const auto done = [this, sequence](const absl::StatusOr<Nearest>& nearest) {
    if (sequence->state != SequenceState::kEmbedding) return;  // ended meanwhile
    waiting_.remove(sequence);
    if (nearest.ok()) {
      sequence->embedding = nearest->embedding;
      sequence->neighbors = nearest->neighbors;
      sequence->nearest_evicted = nearest->evicted;
    }
    LookUp(sequence);
  };
  embedder_->Post([this, sequence, done] {
    FindNearest(sequence->request.prompt_text, options_.semantic_top_k, done);
  });
}

// How many tokens SEMANTIC retrieval may reuse: no more than the deepest
// candidate of the vector index shares with the prompt.
int32_t EngineImpl::SemanticLimit(Sequence& sequence, ReuseSnapshot& snapshot) {
  Reuse& reuse = sequence.result.reuse;
  if (!sequence.embedding) {
    snapshot.miss_reason = MissReason::kEmbeddingFailed;
    return 0;
  }
  reuse.candidate_computed = true;
  snapshot.miss_reason = sequence.nearest_evicted ? MissReason::kEvicted : MissReason::kNoCandidate;
  int32_t limit = 0;
  for (const Neighbor& neighbor : sequence.neighbors) {
    const auto candidate = prompts_.Compare(neighbor, sequence.request.prompt);
    if (!candidate) continue;
    if (!reuse.candidate) {
      reuse.candidate = candidate;
      snapshot.miss_reason = MissReason::kDiverges;
    }
    const auto whole = static_cast<int32_t>(prompts_.Find(neighbor.id)->size());
    if (options_.require_full_prefix && candidate->common_tokens < whole) {
      snapshot.full_prefix_refused = true;
    } else if (candidate->common_tokens > limit) {
      limit = candidate->common_tokens;
      reuse.candidate = candidate;
      snapshot.miss_reason = MissReason::kEvicted;  // should no tier hold it
    }
  }
  if (limit > 0) snapshot.full_prefix_refused = false;
  return limit;
}

// HYBRID: a prompt that is cached itself is its own nearest, which needs no embedding.
void EngineImpl::KnownCandidate(Sequence& sequence) {
  if (ModeOf(sequence) != RetrievalMode::kHybrid || !sequence.looks_up()) return;
  const auto id = prompts_.IdOf(sequence.request.prompt);
  if (!id) return;
  sequence.result.reuse.candidate_computed = true;
  sequence.result.reuse.candidate = prompts_.Compare({*id, 1.0f}, sequence.request.prompt);
}

bool EngineImpl::IsIndexed(const std::vector<TokenId>& ids) const {
  const auto id = prompts_.IdOf(ids);
  return id && parts_.vectors->Contains(*id);
}

void EngineImpl::QueueEmbedding(const Sequence& sequence) {
  if (!SimilarityOn() || IsIndexed(sequence.request.prompt)) return;
  if (sequence.embedding) {
    AddPrompt(sequence.request.prompt, *sequence.embedding);
    return;
  }
  if (embeddings_.size() >= kMaxPendingEmbeddings) embeddings_.pop_front();
  embeddings_.push_back({sequence.request.prompt, sequence.request.prompt_text});
}

// While nothing else runs: an embedding must not slow a reply down.
void EngineImpl::RunQueuedEmbedding() {
  // A prompt that was queued twice is embedded once.
  while (!embeddings_.empty() && IsIndexed(embeddings_.front().ids)) embeddings_.pop_front();
  if (embeddings_.empty() || embedding_now_) return;
  embedding_now_ = true;
  PendingEmbedding next = std::move(embeddings_.front());
  embeddings_.pop_front();
  embedder_->Post([this, next = std::move(next)] {
    auto embedding = RunEmbed(next.text);
    Post([this, ids = next.ids, embedding = std::move(embedding)] {
      embedding_now_ = false;
      if (embedding.ok()) AddPrompt(ids, *embedding);
    });
  });
}

// A new prompt, or a known one whose vector was lost.
void EngineImpl::AddPrompt(const std::vector<TokenId>& ids, const std::vector<float>& embedding) {
  const auto known = prompts_.IdOf(ids);
  const auto id = known ? known : prompts_.Add(ids);
  if (!id || !parts_.vectors->Add(*id, embedding).ok()) return;
  ++vector_changes_;
  ForgetOldPrompts();
  if (!StoreOn()) return;
  PromptRecord prompt{*id, parts_.identity, ids, embedding,
                      absl::ToUnixMillis(parts_.clock->Now())};
  writer_->Post([this, prompt = std::move(prompt)] {
    absl::Status status = parts_.store->WritePrompt(prompt);
    if (status.ok()) return;
    Post([this, status = std::move(status)] { StoreFailed(StoreFailure::kWrite, status); });
  });
}

// Forgets those of which the tiers hold less than half, and those that are not known.
// The caller removes their vectors.
std::vector<uint64_t> EngineImpl::ForgetEvictedPrompts(const std::vector<Neighbor>& neighbors) {
  std::vector<uint64_t> evicted;
  // What a store holds that is off for now may be whole.
  if (parts_.store != nullptr && !StoreOn()) return evicted;
  for (const Neighbor& neighbor : neighbors) {
    const std::vector<TokenId>* ids = prompts_.Find(neighbor.id);
    if (ids != nullptr) {
      const int32_t held = std::max(blocks_.MatchedTokens(*ids), disk_.MatchedTokens(*ids));
      if (int64_t{2} * held >= static_cast<int64_t>(ids->size())) continue;
      prompts_.Remove(neighbor.id);
      DeletePromptFromStore(neighbor.id);
    }
    evicted.push_back(neighbor.id);
    ++vector_changes_;
  }
  return evicted;
}

void EngineImpl::ForgetOldPrompts() {
  while (static_cast<int64_t>(prompts_.size()) > options_.max_prompts ||
         prompts_.total_tokens() > options_.max_prompt_tokens) {
    const uint64_t id = *prompts_.RemoveOldest();
    // Left behind, it is found and not known.
    if (parts_.vectors != nullptr) parts_.vectors->Remove(id).IgnoreError();
    DeletePromptFromStore(id);
  }
}

void EngineImpl::DeletePromptFromStore(uint64_t id) {
  if (!StoreOn()) return;
  writer_->Post([this, id] {
    absl::Status status = parts_.store->DeletePrompt(parts_.identity, id);
    if (status.ok()) return;
    Post([this, status = std::move(status)] { StoreFailed(StoreFailure::kDelete, status); });
  });
}

// A large index is saved once a tenth of it is new: a start takes what is missing from the
// store, which costs less than writing all of it for each prompt.
bool EngineImpl::VectorsToSave(bool all) const {
  if (vector_changes_ == 0) return false;
  return all || vector_changes_ >= std::min<int64_t>(parts_.vectors->size() / 10, kMaxUnsaved);
}

void EngineImpl::SaveVectors(bool all) {
  if (saving_vectors_ || !(VectorsToSave(all) || vectors_not_saved_)) return;
  if (vectors_not_saved_ && Now() < retry_vectors_at_) return;
  vector_changes_ = 0;
  if (options_.vector_index_path.empty()) return;
  saving_vectors_ = true;
  writer_->Post([this] {
    absl::Status status = parts_.vectors->Save(options_.vector_index_path);
    Post([this, status = std::move(status)] {
      saving_vectors_ = false;
      vectors_not_saved_ = !status.ok();
      if (status.ok()) return;
      // No fault of the store, from which the next start rebuilds the index.
      retry_vectors_at_ = Now() + options_.retry_pause;
      Tell("vector_index_not_saved", status);
    });
  });
}

}  // namespace reprise
