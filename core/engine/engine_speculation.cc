// Drafts of decoding sequences: made after the scheduler's plan, in the rows and blocks that
// it left, so that they never take any from a sequence's own work.
#include <algorithm>

#include "core/engine/engine_impl.h"

namespace reprise {

// A draft for a sequence that has blocks for its next token; empty: none. It ends before what
// can only end it, so a sampled end of the text is never followed by accepted tokens, and
// leaves the last token of the reply to be sampled.
std::vector<TokenId> EngineImpl::ProposeDraft(Sequence& sequence) const {
  if (!sequence.speculation || !sequence.decoding()) return {};
  const GenerateRequest& request = sequence.request;
  const auto produced = static_cast<int32_t>(sequence.result.output_ids.size());
  const int32_t limit =
      std::min(sequence.speculation->pace.NextLength(), request.max_output_tokens - produced - 1);
  if (limit <= 0) return {};
  std::vector<TokenId> draft = sequence.speculation->lookup.Propose(sequence.tokens, limit);
  const auto ends = [&](TokenId id) {
    const auto is_in = [id](const std::vector<TokenId>& ids) {
      return std::find(ids.begin(), ids.end(), id) != ids.end();
    };
    return id == parts_.tokenizer->eos_id() || is_in(request.stop_ids) || is_in(sequence.banned);
  };
  draft.erase(std::find_if(draft.begin(), draft.end(), ends), draft.end());
  return draft;
}

void EngineImpl::AddDrafts(const std::vector<SequencePtr>& members, StepBatch& batch) {
  int32_t rows = options_.max_batch_tokens;
  std::vector<size_t> drafting;
  std::vector<int32_t> wanted;
  for (size_t i = 0; i < members.size(); ++i) {
    rows -= static_cast<int32_t>(batch.sequences[i].tokens.size());
    std::vector<TokenId> draft = ProposeDraft(*members[i]);
    if (draft.empty()) continue;
    drafting.push_back(i);
    wanted.push_back(static_cast<int32_t>(draft.size()));
    members[i]->speculation->draft = std::move(draft);
  }
  rows = std::min(rows, options_.max_step_draft_tokens);
  const std::vector<int32_t> granted = ShareDraftRows(wanted, rows);
  for (size_t i = 0; i < drafting.size(); ++i) {
    Sequence& sequence = *members[drafting[i]];
    std::vector<TokenId>& draft = sequence.speculation->draft;
    // Nobody else gets blocks in this step any more.
    const int32_t blocks = static_cast<int32_t>(sequence.blocks.size()) + blocks_.num_available();
    const int32_t room = blocks * kBlockTokens - sequence.computed - 1;
    draft.resize(std::min(granted[i], room));
    if (!GrowBlocks(sequence, 1 + static_cast<int32_t>(draft.size()))) draft.clear();
    batch.sequences[drafting[i]].block_table = sequence.blocks;
    batch.sequences[drafting[i]].draft = draft;
  }
}

// Takes the draft tokens that were accepted, whose KV is there already, and the token after
// them. The sequence may end at any of them, as it would without a draft: its KV then ends
// where plain decoding's does.
void EngineImpl::TakeSampled(const SequencePtr& sequence, const StepSequence& step,
                             const StepResult& result, size_t index) {
  const int32_t accepted = result.accepted[index];
  if (!step.draft.empty()) {
    const auto drafted = static_cast<int32_t>(step.draft.size());
    sequence->speculation->pace.Observe(drafted, accepted);
    sequence->result.usage.draft_tokens += drafted;
  }
  sequence->ahead = accepted;
  for (const TokenId token : step.draft.subspan(0, accepted)) {
    ++sequence->result.usage.accepted_tokens;
    TakeToken(sequence, token);
    if (sequence->state == SequenceState::kDone) return;
    ++sequence->computed;
    --sequence->ahead;
  }
  TakeToken(sequence, result.tokens[index]);
  if (step.draft.empty() || sequence->state == SequenceState::kDone) return;
  // Blocks that only what was rejected needed are not held on to.
  while (static_cast<int32_t>(sequence->blocks.size()) > BlocksFor(sequence->computed)) {
    blocks_.Release(sequence->blocks.back());
    sequence->blocks.pop_back();
  }
}

// Makes the last block that is kept as if the accepted tokens past the end had never been
// computed; blocks after it are not kept. False: it is not fit to be kept.
bool EngineImpl::DropAhead(const Sequence& sequence) {
  const int32_t slots = sequence.computed % kBlockTokens;
  if (sequence.ahead == 0 || slots == 0) return true;
  const BlockId block = sequence.blocks[sequence.computed / kBlockTokens];
  return parts_.runner->CopyBlock(block, block, slots).ok();
}

}  // namespace reprise
