// Random trials of the exactness contract on any runner: what exactness_trials and
// cuda_exactness_trials share.
//
// Each trial computes one prompt twice: cold, in one step alone, and then in another way:
// the first tokens' KV is reused from an earlier sequence (its blocks shared and the last
// one copied, or evicted and loaded from their bytes), the rest is computed in random
// pieces beside 0 to 31 other sequences. All KV and the last logits must be equal.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/model/model_runner.h"
#include "tests/fakes/random_model.h"

namespace reprise::trials {

inline constexpr int kMaxMates = 31;
inline constexpr int kTrialsPerPrompt = 4;
inline constexpr int kMinPrompt = 17;

// What a row of the report adds up.
struct Tally {
  int trials = 0, differing = 0;
  int64_t shared_tokens = 0, loaded_tokens = 0;
};

struct Trace {
  std::vector<uint8_t> kv;  // all blocks of the prompt
  std::vector<float> logits;
};

inline bool SameBits(const Trace& a, const Trace& b) {
  return a.kv == b.kv && a.logits.size() == b.logits.size() &&
         std::memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)) == 0;
}

[[noreturn]] inline void Fail(const absl::Status& status) {
  std::cerr << "exactness_trials: " << status << std::endl;
  std::exit(2);
}

inline void Require(const absl::Status& status) {
  if (!status.ok()) Fail(status);
}

// Makes one of two runners of the same weights that must agree, with that many blocks.
using MakeRunner =
    std::function<absl::StatusOr<std::unique_ptr<ModelRunner>>(int index, int64_t blocks)>;

// One configuration: the same weights in two runners.
class Configuration {
 public:
  Configuration(const MakeRunner& make, int max_prompt)
      : max_blocks_((max_prompt + kBlockTokens - 1) / kBlockTokens), max_prompt_(max_prompt) {
    for (int i : {0, 1}) {
      auto runner = make(i, 3 * max_blocks_ + kMaxMates);
      if (!runner.ok()) Fail(runner.status());
      runners_[i] = *std::move(runner);
    }
  }

  void RunTrials(int count, std::mt19937& random, Tally& tally) {
    for (int done = 0; done < count; done += kTrialsPerPrompt) {
      const std::vector<TokenId> prompt = RandomPrompt(random);
      const Trace cold = RunCold(prompt);
      for (int i = done; i < std::min(count, done + kTrialsPerPrompt); ++i) {
        RunTrial(prompt, cold, random, tally);
      }
    }
  }

 private:
  using Table = std::vector<BlockId>;

  // Blocks [0, max) belong to the trial, [max, 2 max) to the donor, then spare ones for
  // copies and loads, then one for each mate.
  Table Region(int index) const {
    Table table(max_blocks_);
    for (int i = 0; i < max_blocks_; ++i) table[i] = index * max_blocks_ + i;
    return table;
  }

  // Lengths are spread evenly over their logarithm.
  std::vector<TokenId> RandomPrompt(std::mt19937& random) const {
    const double span = std::log(static_cast<double>(max_prompt_) / kMinPrompt);
    const double at = std::uniform_real_distribution<double>(0, span)(random);
    std::vector<TokenId> ids(static_cast<size_t>(kMinPrompt * std::exp(at)));
    for (TokenId& id : ids) {
      id = static_cast<TokenId>(random() % runners_[0]->vocabulary_size());
    }
    return ids;
  }

  Trace RunCold(const std::vector<TokenId>& prompt) {
    const Table table = Region(0);
    StepSequence s;
    s.tokens = prompt;
    s.block_table = table;
    s.want_logits = true;
    const auto result = runners_[0]->Step({{s}});
    if (!result.ok()) Fail(result.status());
    return {ReadBlocks(*runners_[0], table, prompt.size()), result->logits[0]};
  }

  static std::vector<uint8_t> ReadBlocks(const ModelRunner& runner, const Table& table,
                                         size_t tokens) {
    const auto bytes = static_cast<size_t>(runner.block_bytes());
    std::vector<uint8_t> kv((tokens + kBlockTokens - 1) / kBlockTokens * bytes);
    for (size_t b = 0; b * bytes < kv.size(); ++b) {
      Require(runner.ReadBlock(table[b], absl::MakeSpan(kv).subspan(b * bytes, bytes)));
    }
    return kv;
  }

  // All that is left, one token as decoding does, or up to 40.
  static size_t RandomPiece(size_t left, std::mt19937& random) {
    const uint32_t kind = random() % 3;
    if (kind == 0) return left;
    return kind == 1 ? 1 : 1 + random() % std::min<size_t>(left, 40);
  }

  // None in every third run, else up to kMaxMates.
  static int RandomMates(std::mt19937& random) {
    return random() % 3 == 0 ? 0 : static_cast<int>(1 + random() % kMaxMates);
  }

  // Computes prompt[from, to) in random pieces beside `mates` other sequences, whose
  // tokens are random too; the logits of the last token.
  std::vector<float> Compute(ModelRunner& runner, const std::vector<TokenId>& prompt, size_t from,
                             size_t to, const Table& table, int mates, std::mt19937& random) {
    std::vector<float> logits;
    while (from < to) {
      const size_t piece = RandomPiece(to - from, random);
      std::vector<TokenId> mate_ids(static_cast<size_t>(mates));
      Table mate_blocks(static_cast<size_t>(mates));
      StepBatch batch;
      for (int m = 0; m < mates; ++m) {
        mate_ids[m] = static_cast<TokenId>(random() % runner.vocabulary_size());
        mate_blocks[m] = 3 * max_blocks_ + m;
        StepSequence mate;
        mate.tokens = absl::MakeConstSpan(mate_ids).subspan(m, 1);
        mate.block_table = absl::MakeConstSpan(mate_blocks).subspan(m, 1);
        batch.sequences.push_back(mate);
      }
      StepSequence s;
      s.tokens = absl::MakeConstSpan(prompt).subspan(from, piece);
      s.start_position = static_cast<int32_t>(from);
      s.block_table = table;
      s.want_logits = from + piece == to;
      const size_t at = random() % (batch.sequences.size() + 1);
      batch.sequences.insert(batch.sequences.begin() + static_cast<int64_t>(at), s);
      auto result = runner.Step(batch);
      if (!result.ok()) Fail(result.status());
      logits = std::move(result->logits[at]);
      from += piece;
    }
    return logits;
  }

  // Gives the trial the donor's first `reused` tokens: shared blocks, the last copied.
  void Share(ModelRunner& runner, size_t reused, const Table& donor, Table& table) {
    const size_t whole = reused / kBlockTokens;
    std::copy(donor.begin(), donor.begin() + static_cast<int64_t>(whole), table.begin());
    if (reused % kBlockTokens == 0) return;
    Require(runner.CopyBlock(donor[whole], table[whole], static_cast<int>(reused % kBlockTokens)));
  }

  // Evicts the donor's blocks: their bytes are kept, the blocks filled with NaN, and the
  // bytes loaded into other blocks, which the donor has from then on.
  void EvictAndLoad(ModelRunner& runner, size_t reused, Table& donor) {
    const Table spare = Region(2);
    std::vector<uint8_t> bytes(static_cast<size_t>(runner.block_bytes()));
    const std::vector<uint8_t> nan(bytes.size(), 0xFF);
    for (size_t b = 0; b * kBlockTokens < reused; ++b) {
      Require(runner.ReadBlock(donor[b], absl::MakeSpan(bytes)));
      Require(runner.WriteBlock(donor[b], nan));
      Require(runner.WriteBlock(spare[b], bytes));
      donor[b] = spare[b];
    }
  }

  void RunTrial(const std::vector<TokenId>& prompt, const Trace& cold, std::mt19937& random,
                Tally& tally) {
    ModelRunner& runner = *runners_[random() % 2];
    Table donor = Region(1), table = Region(0);
    const size_t reused = 1 + random() % (prompt.size() - 1);
    const size_t kept = reused + random() % (prompt.size() - reused);
    Compute(runner, prompt, 0, kept, donor, RandomMates(random), random);
    const bool load = random() % 2 == 0;
    if (load) EvictAndLoad(runner, reused, donor);
    Share(runner, reused, donor, table);
    Trace warm;
    warm.logits =
        Compute(runner, prompt, reused, prompt.size(), table, RandomMates(random), random);
    warm.kv = ReadBlocks(runner, table, prompt.size());
    ++tally.trials;
    tally.differing += SameBits(warm, cold) ? 0 : 1;
    (load ? tally.loaded_tokens : tally.shared_tokens) += static_cast<int64_t>(reused);
  }

  const int max_blocks_, max_prompt_;
  std::unique_ptr<ModelRunner> runners_[2];
};

// Two layers, one of them local in architectures that have such; down projections reduce
// over 4096.
inline ModelConfig TwoLayers(const char* name, Architecture architecture, int heads, int kv_heads,
                             int head_dim) {
  ModelConfig c = SmallModelConfig(architecture);
  c.name = name;
  c.num_heads = heads;
  c.num_kv_heads = kv_heads;
  SetHeadDim(head_dim, c);
  c.hidden_size = heads * head_dim;
  c.intermediate_size = 4096;
  c.context_length = 640;
  SetLocalLayers(100, c);
  return c;
}

class Report {
 public:
  void Add(const std::string& name, const Tally& t) {
    const bool ok = t.differing == 0 && t.trials > 0 && t.shared_tokens + t.loaded_tokens > 0;
    std::printf("%-44s trials %5d  reused: shared %7lld, loaded %7lld tokens  differing %d%s\n",
                name.c_str(), t.trials, static_cast<long long>(t.shared_tokens),
                static_cast<long long>(t.loaded_tokens), t.differing, ok ? "" : "  FAILED");
    std::fflush(stdout);
    trials_ += t.trials;
    differing_ += t.differing;
    failed_ += ok ? 0 : 1;
  }

  void Planted(const char* name, const Tally& t) {
    const bool caught = t.differing > 0;
    std::printf("planted %-36s trials %5d  differing %d  %s\n", name, t.trials, t.differing,
                caught ? "caught" : "NOT CAUGHT");
    failed_ += caught ? 0 : 1;
    caught_ += caught ? 1 : 0;
  }

  int End() const {
    std::printf("exactness trials=%d differing=%d failed_rows=%d planted_caught=%d\n", trials_,
                differing_, failed_, caught_);
    return failed_ == 0 ? 0 : 1;
  }

 private:
  int trials_ = 0, differing_ = 0, failed_ = 0, caught_ = 0;
};

}  // namespace reprise::trials
