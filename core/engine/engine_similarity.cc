#include <algorithm>

#include "core/engine/engine_impl.h"

namespace reprise {
namespace {

constexpr size_t kMaxPendingEmbeddings = 1024;  // prompts; the oldest gives way
constexpr size_t kEmbeddingBatch = 8;           // of one forward pass; a look-up waits for it
// Beside decoding, the encoder rests so many times as long as it worked.
constexpr int kRestAfterEmbedding = 20;
constexpr int64_t kMaxUnsaved = 4096;  // vectors; a start adds them in a moment

}  // namespace

// On the embedding thread, as all that searches the index, which takes time.
absl::StatusOr<std::vector<float>> EngineImpl::RunEmbed(const std::string& text) {
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
void EngineImpl::FindNearest(NearestQuery query, const std::string& text, const NearestTask& done) {
  auto embedding =
      SimilarityOn(*query.in) ? RunEmbed(text) : absl::UnavailableError("similarity search is off");
  if (embedding.ok()) {
    return SearchNearest(*query.in, {*std::move(embedding), {}, false, query.wanted}, done);
  }
  Post([done, status = embedding.status()] { done(status); });
}

// Again and again until no neighbour is a prompt whose KV is gone, so that such a
// one never takes the place of one that can be reused.
void EngineImpl::SearchNearest(CacheNamespace& in, Nearest nearest, const NearestTask& done) {
  auto found = in.vectors->Search(nearest.embedding, nearest.wanted);
  nearest.neighbors = found.ok() ? *std::move(found) : std::vector<Neighbor>();
  Post([this, done, in = &in, nearest = std::move(nearest)]() mutable {
    std::vector<uint64_t> evicted = ForgetEvictedPrompts(*in, nearest.neighbors);
    if (evicted.empty()) return done(std::move(nearest));
    nearest.evicted = true;
    embedder_->Post([this, done, in, nearest = std::move(nearest), evicted = std::move(evicted)] {
      bool removed = true;
      for (const uint64_t id : evicted) removed = in->vectors->Remove(id).ok() && removed;
      if (removed) return SearchNearest(*in, nearest, done);
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
    FindNearest({sequence->cache, options_.semantic_top_k}, sequence->request.prompt_text, done);
  });
}

// How many tokens SEMANTIC retrieval may reuse: no more than the deepest
// candidate of the vector index shares with the prompt.
int32_t EngineImpl::SemanticLimit(Sequence& sequence, ReuseSnapshot& snapshot) {
  const PromptDirectory& prompts = sequence.cache->prompts;
  Reuse& reuse = sequence.result.reuse;
  if (!sequence.embedding) {
    snapshot.miss_reason = MissReason::kEmbeddingFailed;
    return 0;
  }
  reuse.candidate_computed = true;
  snapshot.miss_reason = sequence.nearest_evicted ? MissReason::kEvicted : MissReason::kNoCandidate;
  int32_t limit = 0;
  for (const Neighbor& neighbor : sequence.neighbors) {
    const auto candidate = prompts.Compare(neighbor, sequence.request.prompt);
    if (!candidate) continue;
    if (!reuse.candidate) {
      reuse.candidate = candidate;
      snapshot.miss_reason = MissReason::kDiverges;
    }
    const auto whole = static_cast<int32_t>(prompts.Find(neighbor.id)->size());
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
  const PromptDirectory& prompts = sequence.cache->prompts;
  const auto id = prompts.IdOf(sequence.request.prompt);
  if (!id) return;
  sequence.result.reuse.candidate_computed = true;
  sequence.result.reuse.candidate = prompts.Compare({*id, 1.0f}, sequence.request.prompt);
}

bool EngineImpl::IsIndexed(const CacheNamespace& in, const std::vector<TokenId>& ids) {
  const auto id = in.prompts.IdOf(ids);
  return id && in.vectors->Contains(*id);
}

void EngineImpl::QueueEmbedding(const Sequence& sequence) {
  CacheNamespace& in = *sequence.cache;
  if (!SimilarityOn(in) || IsIndexed(in, sequence.request.prompt)) return;
  if (sequence.embedding) {
    AddPrompt(in, sequence.request.prompt, *sequence.embedding);
    return;
  }
  if (embeddings_.size() >= kMaxPendingEmbeddings) {
    embeddings_.pop_front();
    parts_.metrics->EmbeddingDropped();
  }
  embeddings_.push_back({&in, sequence.request.prompt, sequence.request.prompt_text});
}

// Beside others an embedding takes from a core that decodes: only while none waits for its first
// token, and no more than a share of the time.
bool EngineImpl::DecodingLeavesRoom() const {
  if (embeddings_.empty() || embedding_now_ || Now() < embed_beside_from_) return false;
  if (!queued_.empty() || !waiting_.empty()) return false;
  return std::all_of(running_.begin(), running_.end(),
                     [](const SequencePtr& sequence) { return sequence->decoding(); });
}

// Several at once while nothing else runs, one beside others.
void EngineImpl::RunQueuedEmbeddings() {
  if (embedding_now_) return;
  const size_t most = running_.empty() ? kEmbeddingBatch : 1;
  std::vector<PendingEmbedding> batch;
  while (!embeddings_.empty() && batch.size() < most) {
    PendingEmbedding next = std::move(embeddings_.front());
    embeddings_.pop_front();
    // A prompt that was queued twice is embedded once.
    const bool twice = std::any_of(batch.begin(), batch.end(), [&](const auto& other) {
      return other.in == next.in && other.ids == next.ids;
    });
    if (!twice && !IsIndexed(*next.in, next.ids)) batch.push_back(std::move(next));
  }
  if (batch.empty()) return;
  embedding_now_ = true;
  embedder_->Post([this, batch = std::move(batch), purges = purges_] {
    const absl::Duration start = Now();
    std::vector<std::string> texts;
    for (const PendingEmbedding& pending : batch) texts.push_back(pending.text);
    auto vectors = RunEmbedBatch(texts);
    Post([this, batch, purges, vectors = std::move(vectors), took = Now() - start] {
      embedding_now_ = false;
      embed_beside_from_ = Now() + took * kRestAfterEmbedding;
      for (size_t i = 0; i < batch.size(); ++i) {
        const bool purged = purges != purges_ && !Holds(*batch[i].in, batch[i].ids);
        if (!vectors[i].empty() && !purged) AddPrompt(*batch[i].in, batch[i].ids, vectors[i]);
      }
    });
  });
}

// On the embedding thread; by text, empty where it failed.
std::vector<std::vector<float>> EngineImpl::RunEmbedBatch(absl::Span<const std::string> texts) {
  std::vector<std::vector<float>> vectors(texts.size());
  const absl::Duration start = Now();
  if (parts_.embed_batch != nullptr && texts.size() > 1) {
    auto all = parts_.embed_batch(texts);
    if (all.ok() && all->size() == texts.size()) {
      const absl::Duration each = (Now() - start) / static_cast<int64_t>(texts.size());
      for (size_t i = 0; i < texts.size(); ++i) parts_.metrics->EmbeddingFinished(each);
      return *std::move(all);
    }
  }
  // One by one, also when a batch failed: one bad text takes no other along.
  for (size_t i = 0; i < texts.size(); ++i) {
    auto embedding = RunEmbed(texts[i]);
    if (embedding.ok()) vectors[i] = *std::move(embedding);
  }
  return vectors;
}

// A new prompt, or a known one whose vector was lost.
void EngineImpl::AddPrompt(CacheNamespace& in, const std::vector<TokenId>& ids,
                           const std::vector<float>& embedding) {
  const auto known = in.prompts.IdOf(ids);
  const auto id = known ? known : in.prompts.Add(ids);
  if (!id) return;
  AddVector(in, *id, embedding);
  ForgetOldPrompts();
  if (!StoreOn()) return;
  PromptRecord prompt{*id, in.spec->identity, ids, embedding,
                      absl::ToUnixMillis(parts_.clock->Now())};
  writer_->Post([this, prompt = std::move(prompt)] {
    absl::Status status = parts_.store->WritePrompt(prompt);
    if (status.ok()) return;
    Post([this, status = std::move(status)] { StoreFailed(StoreFailure::kWrite, status); });
  });
}

// On the embedding thread, in turn with searches, which it may have to wait for.
void EngineImpl::AddVector(CacheNamespace& in, uint64_t id, const std::vector<float>& embedding) {
  ++moving_vectors_;
  embedder_->Post([this, id, embedding, in = &in] {
    const bool added = in->vectors->Add(id, embedding).ok();
    Post([this, added] {
      --moving_vectors_;
      if (added) ++vector_changes_;
    });
  });
}

// Forgets those of which the tiers hold less than half, and those that are not known.
// The caller removes their vectors.
std::vector<uint64_t> EngineImpl::ForgetEvictedPrompts(CacheNamespace& in,
                                                       absl::Span<const Neighbor> near) {
  std::vector<uint64_t> evicted;
  // What a store holds that is off for now may be whole.
  if (parts_.store != nullptr && !StoreOn()) return evicted;
  for (const Neighbor& neighbor : near) {
    const std::vector<TokenId>* ids = in.prompts.Find(neighbor.id);
    if (ids != nullptr) {
      const int32_t held =
          std::max(blocks_.MatchedTokens(in.id, *ids), in.disk.MatchedTokens(*ids));
      if (int64_t{2} * held >= static_cast<int64_t>(ids->size())) continue;
      in.prompts.Remove(neighbor.id);
      DeletePromptFromStore(in, neighbor.id);
    }
    evicted.push_back(neighbor.id);
    ++vector_changes_;
  }
  return evicted;
}

void EngineImpl::ForgetOldPrompts() {
  int64_t prompts = 0, tokens = 0;
  ForEachNamespace([&](const CacheNamespace& in) {
    prompts += static_cast<int64_t>(in.prompts.size());
    tokens += in.prompts.total_tokens();
  });
  while (prompts > options_.max_prompts || tokens > options_.max_prompt_tokens) {
    CacheNamespace& in = *Largest([&](const CacheNamespace& each) {
      return prompts > options_.max_prompts ? static_cast<int64_t>(each.prompts.size())
                                            : each.prompts.total_tokens();
    });
    const int64_t before = in.prompts.total_tokens();
    const uint64_t id = *in.prompts.RemoveOldest();
    --prompts;
    tokens -= before - in.prompts.total_tokens();
    DropForgotten(in, id);
  }
}

// The vector and the record of a prompt that is not known any more.
void EngineImpl::DropForgotten(CacheNamespace& in, uint64_t id) {
  if (in.vectors != nullptr) {
    ++vector_changes_;
    ++moving_vectors_;
    embedder_->Post([this, id, in = &in] {
      in->vectors->Remove(id).IgnoreError();  // left behind, it is found and not known
      Post([this] { --moving_vectors_; });
    });
  }
  DeletePromptFromStore(in, id);
}

// Whether a tier has all of it, be it as the beginning of something longer.
bool EngineImpl::Holds(const CacheNamespace& in, absl::Span<const TokenId> ids) const {
  const auto all = static_cast<int32_t>(ids.size());
  return blocks_.MatchedTokens(in.id, ids) == all ||
         (StoreOn() && in.disk.MatchedTokens(ids) == all);
}

// The prompts of an entry that was purged, which are what it begins with, and those of them that
// are still to be embedded.
void EngineImpl::ForgetPurgedPrompts(CacheNamespace& in, absl::Span<const TokenId> ids) {
  ++purges_;
  for (const uint64_t id : in.prompts.BeginningsOf(ids)) {
    if (Holds(in, *in.prompts.Find(id))) continue;
    in.prompts.Remove(id);
    DropForgotten(in, id);
  }
  std::erase_if(embeddings_, [&](const PendingEmbedding& pending) {
    return pending.in == &in && !Holds(in, pending.ids);
  });
}

void EngineImpl::DeletePromptFromStore(const CacheNamespace& in, uint64_t id) {
  if (!StoreOn()) return;
  writer_->Post([this, id, identity = in.spec->identity] {
    absl::Status status = parts_.store->DeletePrompt(identity, id);
    if (status.ok()) return;
    Post([this, status = std::move(status)] { StoreFailed(StoreFailure::kDelete, status); });
  });
}

// A large index is saved once a tenth of it is new: a start takes what is missing from the
// store, which costs less than writing all of it for each prompt.
bool EngineImpl::VectorsToSave(bool all) const {
  if (vector_changes_ == 0) return false;
  return all ||
         vector_changes_ >= std::min<int64_t>(namespaces_[0]->vectors->size() / 10, kMaxUnsaved);
}

void EngineImpl::SaveVectors(bool all) {
  if (saving_vectors_ || !(VectorsToSave(all) || vectors_not_saved_)) return;
  if (vectors_not_saved_ && Now() < retry_vectors_at_) return;
  vector_changes_ = 0;
  if (options_.vector_index_path.empty()) return;
  saving_vectors_ = true;
  writer_->Post([this] {
    absl::Status status = namespaces_[0]->vectors->Save(options_.vector_index_path);
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
