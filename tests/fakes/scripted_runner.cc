#include "tests/fakes/scripted_runner.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace reprise {
namespace {

using Block = std::array<TokenId, kBlockTokens>;

constexpr TokenId kEmptySlot = -1;
constexpr int kLetters = 'z' - 'a' + 1;

class ScriptedRunner final : public ModelRunner {
 public:
  explicit ScriptedRunner(const ScriptedRunnerOptions& options)
      : options_(options), blocks_(options.num_blocks) {
    for (Block& block : blocks_) block.fill(kEmptySlot);
  }

  absl::StatusOr<StepResult> Step(const StepBatch& batch) override {
    if (options_.before_step) options_.before_step(batch);
    const absl::Status fault = options_.fail_step ? options_.fail_step() : absl::OkStatus();
    StepResult result;
    result.logits.resize(batch.sequences.size());
    for (const StepSequence& sequence : batch.sequences) {
      const size_t first_draft = sequence.start_position + sequence.tokens.size();
      const size_t end = first_draft + sequence.draft.size();
      if (end > sequence.block_table.size() * kBlockTokens ||
          end > static_cast<size_t>(options_.context_length)) {
        return absl::InvalidArgumentError("a position has no block");
      }
      if (!sequence.draft.empty() && !sequence.sample) {
        return absl::InvalidArgumentError("a draft without `sample`");
      }
      Store(sequence, sequence.start_position, sequence.tokens, fault.ok());
      Store(sequence, first_draft, sequence.draft, fault.ok());
      const size_t accepted = sequence.sample ? CountAccepted(sequence, first_draft) : 0;
      result.accepted.push_back(static_cast<int32_t>(accepted));
      result.tokens.push_back(sequence.sample ? NextToken(sequence, first_draft + accepted) : 0);
      for (size_t at = first_draft + accepted; at < end; ++at) Slot(sequence, at) = kEmptySlot;
    }
    if (!fault.ok()) return fault;
    return result;
  }

  absl::Status ReadBlock(BlockId block, MutableByteView out) const override {
    if (!IsBlock(block) || out.size() != sizeof(Block)) return BadBlock();
    std::memcpy(out.data(), blocks_[block].data(), sizeof(Block));
    return absl::OkStatus();
  }

  absl::Status WriteBlock(BlockId block, ByteView in) override {
    if (!IsBlock(block) || in.size() != sizeof(Block)) return BadBlock();
    std::memcpy(blocks_[block].data(), in.data(), sizeof(Block));
    return absl::OkStatus();
  }

  absl::Status CopyBlock(BlockId from, BlockId to, int32_t tokens) override {
    if (!IsBlock(from) || !IsBlock(to) || tokens < 0 || tokens > kBlockTokens) return BadBlock();
    const Block source = blocks_[from];
    blocks_[to].fill(kEmptySlot);
    std::copy_n(source.begin(), tokens, blocks_[to].begin());
    return absl::OkStatus();
  }

  int32_t num_blocks() const override { return options_.num_blocks; }
  int64_t block_bytes() const override { return sizeof(Block); }
  int32_t context_length() const override { return options_.context_length; }
  int64_t weight_bytes() const override { return 0; }
  int32_t vocabulary_size() const override { return options_.vocabulary_size; }
  const std::string& numerics_id() const override { return numerics_id_; }

 private:
  static absl::Status BadBlock() { return absl::InvalidArgumentError("unknown block or size"); }

  bool IsBlock(BlockId block) const { return block >= 0 && block < options_.num_blocks; }

  TokenId& Slot(const StepSequence& sequence, size_t position) {
    return blocks_[sequence.block_table[position / kBlockTokens]][position % kBlockTokens];
  }

  void Store(const StepSequence& sequence, size_t position, absl::Span<const TokenId> ids,
             bool whole) {
    for (const TokenId id : ids) {
      // What a block held before must not show in its record.
      if (position % kBlockTokens == 0) {
        blocks_[sequence.block_table[position / kBlockTokens]].fill(kEmptySlot);
      }
      Slot(sequence, position++) = whole ? id : kEmptySlot;
    }
  }

  // How much of the draft, which is in the blocks from `first` on, is what comes next.
  size_t CountAccepted(const StepSequence& sequence, size_t first) {
    size_t count = 0;
    while (count < sequence.draft.size() &&
           NextToken(sequence, first + count) == sequence.draft[count]) {
      ++count;
    }
    return count;
  }

  // FNV-1a over the ids in the blocks, then the first letter that is not banned.
  TokenId NextToken(const StepSequence& sequence, size_t end) {
    uint64_t hash = 0xcbf29ce484222325;
    const auto hashed = static_cast<size_t>(options_.hashed_ids);
    for (size_t i = hashed > 0 && hashed < end ? end - hashed : 0; i < end; ++i) {
      hash = (hash ^ static_cast<uint32_t>(Slot(sequence, i))) * 0x100000001b3;
    }
    const auto is_banned = [&](TokenId id) {
      return std::find(sequence.banned.begin(), sequence.banned.end(), id) != sequence.banned.end();
    };
    auto letter = static_cast<int>((hash >> 32) % kLetters);
    while (is_banned('a' + letter)) letter = (letter + 1) % kLetters;
    return 'a' + letter;
  }

  ScriptedRunnerOptions options_;
  std::vector<Block> blocks_;
  std::string numerics_id_ = "scripted";
};

}  // namespace

std::unique_ptr<ModelRunner> CreateScriptedRunner(const ScriptedRunnerOptions& options) {
  return std::make_unique<ScriptedRunner>(options);
}

}  // namespace reprise
