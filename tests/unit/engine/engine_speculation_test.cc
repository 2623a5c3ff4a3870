// Requests with speculation: the same replies and the same cache as without, in fewer
// steps; nothing taken from anybody else.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/fakes/letter_eos.h"
#include "tests/unit/engine/engine_harness.h"

namespace reprise {
namespace {

// A model whose text repeats after a while, since only two ids decide the next.
HarnessOptions Repeating() {
  HarnessOptions options;
  options.with_similarity = false;
  options.hashed_ids = 2;
  return options;
}

GenerateRequest Drafting(GenerateRequest request, int32_t max_draft_tokens = 8) {
  request.speculation = PromptLookupOptions{2, 4, max_draft_tokens};
  return request;
}

// What the store holds: segments by their ids, with their bytes.
std::map<std::vector<TokenId>, std::vector<uint8_t>> Stored(EngineHarness& harness) {
  harness.Settle();
  std::map<std::vector<TokenId>, std::vector<uint8_t>> stored;
  const auto read = [&](const SegmentRecord& record) {
    std::vector<uint8_t>& payload = stored[record.ids];
    payload.resize(record.payload_bytes);
    EXPECT_TRUE(harness.store().ReadSegment(record, absl::MakeSpan(payload)).ok());
  };
  EXPECT_TRUE(harness.store().ForEachSegment(EngineHarness::Identity(), read).ok());
  return stored;
}

struct Pair {
  Reply plain, drafted;
  int plain_steps = 0, drafted_steps = 0;
};

// Runs `request` both ways, each in an engine of its own; all that a caller and the cache
// see must be equal.
Pair RunBothWays(const HarnessOptions& options, const GenerateRequest& request) {
  EngineHarness plain(options), drafting(options);
  Pair pair{plain.Run(request), drafting.Run(Drafting(request))};
  pair.plain_steps = plain.steps();
  pair.drafted_steps = drafting.steps();
  const GenerateResult &a = pair.plain.result, &b = pair.drafted.result;
  EXPECT_TRUE(pair.drafted.status.ok()) << pair.drafted.status;
  EXPECT_EQ(a.output_ids, b.output_ids);
  EXPECT_EQ(a.text, b.text);
  EXPECT_EQ(pair.plain.streamed, pair.drafted.streamed);
  EXPECT_EQ(pair.plain.streamed_ids, pair.drafted.streamed_ids);
  EXPECT_EQ(a.finish_reason, b.finish_reason);
  EXPECT_EQ(a.matched_stop, b.matched_stop);
  EXPECT_EQ(a.usage.computed_tokens, b.usage.computed_tokens);
  EXPECT_EQ(a.usage.output_tokens, b.usage.output_tokens);
  EXPECT_EQ(a.usage.draft_tokens, 0);
  EXPECT_LE(b.usage.accepted_tokens, std::min(b.usage.draft_tokens, b.usage.output_tokens));
  EXPECT_TRUE(Stored(plain) == Stored(drafting)) << "what is kept differs";
  const CacheStats stats = drafting.Settle();
  EXPECT_EQ(stats.host_free_block_count + stats.host_cached_block_count, stats.host_block_count);
  return pair;
}

const std::string& Text() {
  static const std::string* const text = new std::string(Letters(3, 30));
  return *text;
}

// What the model writes after Text().
std::string Continuation(int length) {
  return EngineHarness(Repeating()).Run(TextRequest(Text(), length)).result.text;
}

TEST(EngineSpeculationTest, RepeatingTextTakesFewerStepsAndItsRowsAreCounted) {
  const GenerateRequest request = TextRequest(Text(), 200);
  const Pair pair = RunBothWays(Repeating(), request);
  EXPECT_EQ(pair.plain_steps, 200);
  EXPECT_LT(pair.drafted_steps, 100);
  const Usage& usage = pair.drafted.result.usage;
  EXPECT_EQ(pair.drafted_steps, 200 - usage.accepted_tokens);
  EngineHarness harness(Repeating());
  harness.Run(Drafting(request));
  EXPECT_EQ(harness.Metric("reprise_step_decode_tokens_total"),
            199 - usage.accepted_tokens + usage.draft_tokens);
  EXPECT_EQ(harness.Metric("reprise_inter_token_seconds_count"), 199);
}

TEST(EngineSpeculationTest, ReplyEndsAtEveryLengthAsItDoesWithout) {
  const HarnessOptions options = Repeating();
  int accepted = 0;
  for (const bool at_context : {false, true}) {
    for (int length = 0; length <= 90; ++length) {
      GenerateRequest request = TextRequest(Text(), length);
      request.ends_at_context = at_context;
      accepted += RunBothWays(options, request).drafted.result.usage.accepted_tokens;
    }
  }
  EXPECT_GT(accepted, 1000);
}

TEST(EngineSpeculationTest, ReplyThatFillsTheContextEndsThere) {
  HarnessOptions options = Repeating();
  options.context_length = 120;
  GenerateRequest request = TextRequest(Text(), 90);
  request.ends_at_context = true;
  const Pair pair = RunBothWays(options, request);
  EXPECT_EQ(pair.drafted.result.finish_reason, FinishReason::kContextLength);
  EXPECT_GT(pair.drafted.result.usage.accepted_tokens, 0);
}

// The prompt holds all that the model will write, so drafts are right from the start.
const std::string& RepeatedText() {
  static const std::string* const text = new std::string(Text() + Continuation(120));
  return *text;
}

TEST(EngineSpeculationTest, StopSequenceWithinADraftEndsTheReplyWhereItDoesWithout) {
  const std::string text =
      EngineHarness(Repeating()).Run(TextRequest(RepeatedText(), 40)).result.text;
  int accepted = 0, cut = 0;
  for (const size_t length : {1, 3, 12}) {
    for (size_t at = 0; at + length <= text.size(); ++at) {
      GenerateRequest request = TextRequest(RepeatedText(), 40);
      request.stop_sequences = {text.substr(at, length)};
      const GenerateResult result = RunBothWays(Repeating(), request).drafted.result;
      EXPECT_EQ(result.finish_reason, FinishReason::kStopSequence);
      accepted += result.usage.accepted_tokens;
      cut += result.usage.draft_tokens - result.usage.accepted_tokens;
    }
  }
  EXPECT_GT(accepted, 100);
  EXPECT_GT(cut, 100);
}

TEST(EngineSpeculationTest, EndOfTextAndStopIdsEndTheReplyWhereTheyDoWithout) {
  const std::string text =
      EngineHarness(Repeating()).Run(TextRequest(RepeatedText(), 40)).result.text;
  int accepted = 0;
  for (const char letter : std::set<char>(text.begin(), text.end())) {
    const LetterEos tokenizer(letter);
    HarnessOptions with_eos = Repeating();
    with_eos.tokenizer = &tokenizer;
    GenerateRequest request = TextRequest(RepeatedText(), 40);
    Pair pair = RunBothWays(with_eos, request);
    EXPECT_EQ(pair.drafted.result.finish_reason, FinishReason::kStop);
    // The end itself is sampled, never drafted: what is accepted is in the reply.
    EXPECT_EQ(pair.drafted_steps, pair.plain_steps - pair.drafted.result.usage.accepted_tokens);
    request.stop_ids = {letter};
    pair = RunBothWays(Repeating(), request);
    EXPECT_EQ(pair.drafted.result.finish_reason, FinishReason::kStop);
    EXPECT_EQ(pair.drafted_steps, pair.plain_steps - pair.drafted.result.usage.accepted_tokens);
    accepted += pair.drafted.result.usage.accepted_tokens;
    request.stop_ids.clear();
    request.ignore_eos = true;
    EXPECT_EQ(RunBothWays(with_eos, request).drafted.result.output_ids.size(), 40u);
  }
  EXPECT_GT(accepted, 10);
}

TEST(EngineSpeculationTest, DraftsThatMissBecomeFewAndChangeNothing) {
  HarnessOptions options = Repeating();
  options.hashed_ids = 0;  // every id counts: nothing repeats but by chance
  const Pair pair = RunBothWays(options, TextRequest("abababababababababab", 300));
  const Usage& usage = pair.drafted.result.usage;
  EXPECT_GT(usage.draft_tokens, 0);
  EXPECT_LT(usage.draft_tokens, 60);
}

// The steps that a prompt of 100 tokens takes beside a sequence that decodes.
absl::Duration PrefillBeside(const GenerateRequest& decoding) {
  HarnessOptions options = Repeating();
  options.engine.max_batch_tokens = 6;
  options.token_time = absl::ZeroDuration();
  options.step_time = absl::Milliseconds(1);
  EngineHarness harness(options);
  harness.gate().Close();
  PendingReply first = harness.Submit(decoding);
  for (int i = 0; i < 60; ++i) {  // by then the text repeats
    harness.gate().AwaitWaiter();
    harness.gate().LetOnePass();
  }
  harness.gate().AwaitWaiter();
  PendingReply second = harness.Submit(TextRequest(Letters(9, 100), 1));
  harness.gate().Open();
  const Usage usage = first.reply.get().result.usage;
  EXPECT_EQ(usage.output_tokens, decoding.max_output_tokens);
  EXPECT_EQ(usage.accepted_tokens > 0, decoding.speculation.has_value());
  EXPECT_EQ(harness.largest_step(), 6);
  return second.reply.get().result.timings.prefill;
}

TEST(EngineSpeculationTest, DraftsTakeOnlyRowsThatOthersLeave) {
  const GenerateRequest decoding = TextRequest(Text(), 400);
  EXPECT_EQ(PrefillBeside(Drafting(decoding)), PrefillBeside(decoding));
}

TEST(EngineSpeculationTest, RowsOfAStepAreBoundedAndNoneAreDraftedWhereTheBoundIsZero) {
  for (const int bound : {0, 3}) {
    HarnessOptions options = Repeating();
    options.engine.max_step_draft_tokens = bound;
    EngineHarness harness(options);
    harness.Run(TextRequest(Text(), 0));
    const Reply reply = harness.Run(Drafting(TextRequest(Text() + "x", 100, CachePolicy::kForce)));
    EXPECT_EQ(reply.result.usage.draft_tokens > 0, bound > 0);
    EXPECT_EQ(reply.result.output_ids,
              EngineHarness(options).Run(TextRequest(Text() + "x", 100)).result.output_ids);
  }
}

TEST(EngineSpeculationTest, BlocksThatOnlyARejectedDraftNeededAreGivenBack) {
  HarnessOptions options = Repeating();
  options.hashed_ids = 0;
  EngineHarness harness(options);
  harness.gate().Close();
  // 30 ids; a draft of 8 behind the next one reaches into a third block.
  GenerateRequest request = TextRequest("abcdefghijklmnopqrstuvwxyzabcd", 20, CachePolicy::kBypass);
  request.speculation = PromptLookupOptions{1, 1, 8};
  PendingReply pending = harness.Submit(request);
  harness.gate().AwaitWaiter();
  for (int step = 0; step < 2; ++step) {
    harness.gate().LetOnePass();
    harness.gate().AwaitWaiter();
  }
  EXPECT_EQ(harness.Metric("reprise_step_decode_tokens_total"), 9);
  EXPECT_EQ(harness.Metric("reprise_host_used_blocks"), 2);
  harness.gate().Open();
  EXPECT_EQ(pending.reply.get().result.output_ids.size(), 20u);
}

// Many at once in a pool too small for all: preempted, cancelled, drafting or not.
TEST(EngineSpeculationTest, CrowdedPoolGivesTheRepliesOfAnEmptyOneAndAllBlocksBack) {
  HarnessOptions options = Repeating();
  options.num_blocks = 16;
  options.engine.max_batch_tokens = 40;
  EngineHarness harness(options);
  std::vector<GenerateRequest> requests;
  std::vector<PendingReply> pending;
  harness.gate().Close();
  for (uint32_t i = 0; i < 12; ++i) {
    GenerateRequest request = TextRequest(Letters(i, 20 + 7 * i), 60 + 5 * i);
    if (i % 4 == 3) request.cache_policy = CachePolicy::kBypass;
    requests.push_back(request);
    if (i % 5 != 4) request = Drafting(request, 1 + 3 * i);
    pending.push_back(harness.Submit(request));
  }
  harness.gate().AwaitWaiter();
  harness.engine().Cancel(pending[2].id);
  harness.gate().Open();
  for (size_t i = 0; i < pending.size(); ++i) {
    const Reply reply = pending[i].reply.get();
    if (i == 2) {
      EXPECT_TRUE(absl::IsCancelled(reply.status));
      continue;
    }
    const GenerateResult alone = EngineHarness(Repeating()).Run(requests[i]).result;
    EXPECT_EQ(reply.result.output_ids, alone.output_ids) << i;
    EXPECT_EQ(reply.result.finish_reason, alone.finish_reason) << i;
  }
  const CacheStats stats = harness.Settle();
  EXPECT_EQ(stats.host_free_block_count + stats.host_cached_block_count, stats.host_block_count);
  EXPECT_GT(harness.Metric("reprise_preemptions_total"), 0) << "none was preempted";
}

TEST(EngineSpeculationTest, StepThatFailsEndsADraftingSequenceWithNothingKept) {
  std::atomic<int> left{-1};
  HarnessOptions options = Repeating();
  options.fail_step = [&] { return left-- == 0 ? absl::InternalError("fault") : absl::OkStatus(); };
  EngineHarness harness(options);
  harness.Run(Drafting(TextRequest(Text(), 200, CachePolicy::kBypass)));
  left = harness.steps() - 3;
  const Reply reply = harness.Run(Drafting(TextRequest(Text(), 200)));
  EXPECT_EQ(reply.status.code(), absl::StatusCode::kInternal);
  EXPECT_GT(reply.result.usage.accepted_tokens, 0);
  const CacheStats stats = harness.Settle();
  EXPECT_EQ(stats.host_cached_tokens, 16);  // the prompt's whole block, from its own step
  EXPECT_EQ(stats.host_free_block_count + stats.host_cached_block_count, stats.host_block_count);
}

TEST(EngineSpeculationTest, OptionsOutOfRangeAreRefused) {
  EngineHarness harness(Repeating());
  GenerateRequest request = TextRequest("text", 5);
  request.speculation = PromptLookupOptions{3, 2, 8};
  const absl::Status refusal = harness.Refusal(request);
  EXPECT_TRUE(absl::IsInvalidArgument(refusal));
  EXPECT_EQ(refusal.message(), "speculation.min_ngram: 3, expected 1 to 2");
}

}  // namespace
}  // namespace reprise
