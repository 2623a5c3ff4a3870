// PromptDirectory: the cached prompts by id, for similarity search.
//
// Threading  not thread-safe; the engine thread owns it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/types/span.h"
#include "core/base/ids.h"
#include "core/engine/request.h"
#include "core/similarity/vector_index.h"

namespace reprise {

class PromptDirectory {
 public:
  // The new prompt's id, or nullopt when exactly these ids are known.
  std::optional<uint64_t> Add(absl::Span<const TokenId> ids);

  // A prompt read back from the store; one whose id or ids are known stays out.
  void Restore(uint64_t id, std::vector<TokenId> ids);

  void Remove(uint64_t id);

  // Forgets the oldest prompt and returns its id; nullopt when there is none.
  std::optional<uint64_t> RemoveOldest();

  // The id of the prompt that is exactly `ids`.
  std::optional<uint64_t> IdOf(absl::Span<const TokenId> ids) const;

  // The prompts that `ids` begin with, `ids` itself included.
  std::vector<uint64_t> BeginningsOf(absl::Span<const TokenId> ids) const;

  // The ids of prompt `id`; null when it is unknown.
  const std::vector<TokenId>* Find(uint64_t id) const;

  // How the neighbour relates to `ids`; nullopt when its prompt is unknown.
  std::optional<Candidate> Compare(const Neighbor& neighbor, absl::Span<const TokenId> ids) const;

  // The nearest of `neighbors`, which come most similar first; of those that are as near, the one
  // that shares most tokens with `ids`: an embedding does not tell long prompts apart that part
  // late. Nullopt when no prompt of them is known.
  std::optional<Candidate> Nearest(absl::Span<const Neighbor> neighbors,
                                   absl::Span<const TokenId> ids) const;

  size_t size() const { return prompts_.size(); }
  int64_t total_tokens() const { return total_tokens_; }

 private:
  std::map<uint64_t, std::vector<TokenId>> prompts_;
  struct Before {  // in the order of their ids
    bool operator()(absl::Span<const TokenId> a, absl::Span<const TokenId> b) const {
      return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
    }
  };
  absl::btree_map<absl::Span<const TokenId>, uint64_t, Before> by_ids_;  // views of prompts_
  uint64_t next_id_ = 1;  // an id is never given twice
  int64_t total_tokens_ = 0;
};

// Tokens that both begin with.
int32_t CommonPrefixTokens(absl::Span<const TokenId> a, absl::Span<const TokenId> b);

}  // namespace reprise
