// A small version of the exactness tests that every start repeats.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/cpu_runner.h"

namespace reprise {
namespace {

constexpr int kTokens = 41;  // ends inside a block, with odd row tiles
constexpr int kBlocks = (kTokens + kBlockTokens - 1) / kBlockTokens;

std::vector<TokenId> ProbeTokens(int32_t vocabulary, uint32_t seed) {
  std::vector<TokenId> tokens(kTokens);
  for (TokenId& token : tokens) {
    seed = seed * 1664525u + 1013904223u;
    token = static_cast<TokenId>((seed >> 8) % static_cast<uint32_t>(vocabulary));
  }
  return tokens;
}

struct Trace {
  std::vector<uint8_t> kv;
  std::vector<float> logits;
};

// Runs `tokens` in pieces that end at `ends`, each beside `mates` when given.
absl::StatusOr<Trace> RunPieces(ModelRunner& runner, const std::vector<TokenId>& tokens,
                                const std::vector<int>& ends, const std::vector<TokenId>* mate) {
  std::vector<BlockId> blocks(kBlocks), mate_blocks(kBlocks);
  std::iota(blocks.begin(), blocks.end(), 0);
  std::iota(mate_blocks.begin(), mate_blocks.end(), kBlocks);
  Trace trace;
  int start = 0;
  for (const int end : ends) {
    StepBatch batch;
    StepSequence own;
    own.tokens = absl::MakeConstSpan(tokens).subspan(start, end - start);
    own.start_position = start;
    own.block_table = blocks;
    own.want_logits = end == kTokens;
    StepSequence other = own;
    if (mate != nullptr) {
      other.tokens = absl::MakeConstSpan(*mate).subspan(start, end - start);
      other.block_table = mate_blocks;
      batch.sequences.push_back(other);
    }
    batch.sequences.push_back(own);
    ASSIGN_OR_RETURN(StepResult result, runner.Step(batch));
    trace.logits = std::move(result.logits.back());
    start = end;
  }
  trace.kv.resize(kBlocks * runner.block_bytes());
  for (int i = 0; i < kBlocks; ++i) {
    RETURN_IF_ERROR(runner.ReadBlock(
        blocks[i],
        absl::MakeSpan(trace.kv).subspan(i * runner.block_bytes(), runner.block_bytes())));
  }
  return trace;
}

bool SameBits(const Trace& a, const Trace& b) {
  return a.kv == b.kv && a.logits.size() == b.logits.size() &&
         std::memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)) == 0;
}

}  // namespace

absl::Status ProbeExactness(ModelRunner& runner) {
  if (runner.num_blocks() < 2 * kBlocks || runner.context_length() < kTokens) {
    return absl::FailedPreconditionError(absl::StrCat("the exactness probe needs ", 2 * kBlocks,
                                                      " blocks and ", kTokens, " positions"));
  }
  const std::vector<TokenId> tokens = ProbeTokens(runner.vocabulary_size(), 1);
  const std::vector<TokenId> mate = ProbeTokens(runner.vocabulary_size(), 2);
  ASSIGN_OR_RETURN(const Trace cold, RunPieces(runner, tokens, {kTokens}, nullptr));
  struct Variant {
    const char* name;
    std::vector<int> ends;
    const std::vector<TokenId>* mate;
  };
  for (const Variant& variant :
       {Variant{"split at 32", {32, kTokens}, nullptr},
        Variant{"split at 13 and 14", {13, 14, kTokens}, nullptr},
        Variant{"last token alone, beside another sequence", {kTokens - 1, kTokens}, &mate}}) {
    ASSIGN_OR_RETURN(const Trace trace, RunPieces(runner, tokens, variant.ends, variant.mate));
    if (!SameBits(cold, trace)) {
      return absl::DataLossError(
          absl::StrCat("KV or logits differ from a single cold pass: ", variant.name));
    }
  }
  return absl::OkStatus();
}

}  // namespace reprise
