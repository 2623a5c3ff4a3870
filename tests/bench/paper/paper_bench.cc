// The arms of the paper's experiment that are no requests: what the published call computes (P0),
// and beside it the cold prompt (RB) and correct reuse (RP1), on the same layers in turns.
//
//   paper_bench MODEL FILE.csv [--encoder FOLDER] [--threads N] [--repeats N]
//                              [--output-tokens N] [--equal-tokens N]
//
// Lines as client/paper/paper_record.h has them. On other architectures than GPT-2 the library's
// call fails on half of the prompts; P0 is GPT-2's rule there too.
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <numeric>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/csv.h"
#include "client/paper/paper_prompts.h"
#include "client/paper/paper_record.h"
#include "core/model/sentence_encoder.h"
#include "core/text/incremental_text.h"
#include "core/text/load_text.h"
#include "core/text/wordpiece_tokenizer.h"
#include "tests/bench/paper/published_call.h"

namespace reprise::bench {
namespace {

using client::PaperPrompt;
using client::PaperRow;
using client::PaperSet;

constexpr char kData[] = "tests/data/paper/";
enum Arm { kCold, kPublished, kCorrect };
constexpr const char* kArmNames[] = {"RB", "P0", "RP1"};
constexpr int kArms = 3;

template <typename T>
T Check(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << "paper_bench: " << value.status() << std::endl;
  std::exit(1);
}

class Encoder {
 public:
  explicit Encoder(const std::string& folder)
      : model_(Check(LoadSentenceEncoder(folder, 1))),
        pieces_(Check(WordPieceTokenizer::Load(folder))) {}

  double Similarity(const std::string& a, const std::string& b) const {
    const std::vector<float> x = Embed(a), y = Embed(b);
    return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
  }

 private:
  std::vector<float> Embed(const std::string& text) const {
    return Check(model_.encode(pieces_->Encode(text, static_cast<size_t>(model_.max_tokens))));
  }

  SentenceEncoderModel model_;
  std::unique_ptr<WordPieceTokenizer> pieces_;
};

struct Settings {
  int threads = 2, repeats = 30, output_tokens = 100, equal_tokens = 32;
  std::string encoder = "models/all-minilm-l6-v2";
};

class Bench {
 public:
  Bench(const std::string& model, const Settings& settings)
      : settings_(settings),
        text_(Check(LoadText(model))),
        model_(Check(PositionedModel::Create(
            Check(LoadModel(model)), settings.threads,
            kPromptSlots + std::max(settings.output_tokens, settings.equal_tokens)))),
        encoder_(settings.encoder) {}

  void Run(std::ostream& out) {
    PaperSet set;
    set.cached = Read("cache_prompts.csv");
    set.tests = Read("test_prompts.csv");
    client::PairWithCached(set);
    out << client::PaperCsvHeader();
    for (const bool ignore_end : {false, true}) {
      const int tokens = ignore_end ? settings_.equal_tokens : settings_.output_tokens;
      if (tokens == 0) continue;
      for (size_t i = 0; i < set.tests.size(); ++i) {
        PaperRow row;
        row.set = "paper";
        row.ends = ignore_end ? "length" : "eos";
        row.prompt = static_cast<int>(i);
        RunPrompt(set.tests[i], {tokens, text_.tokenizer->eos_id().value_or(-1), ignore_end}, row,
                  out);
      }
    }
  }

 private:
  static constexpr int kPromptSlots = 64;  // those of the paper's prompts are shorter

  std::vector<PaperPrompt> Read(const std::string& file) {
    std::vector<PaperPrompt> prompts;
    for (const std::string& text : Check(client::ReadCsvColumn(kData + file, "text"))) {
      PaperPrompt prompt;
      prompt.label = text;
      prompt.ids = Check(text_.tokenizer->Encode(text));
      prompts.push_back(std::move(prompt));
    }
    return prompts;
  }

  std::string TextOf(absl::Span<const TokenId> ids) const {
    IncrementalDetokenizer detokenizer(text_.tokenizer.get());
    std::string text;
    for (const TokenId id : ids) text += detokenizer.Push(id);
    return text + detokenizer.Finish();
  }

  // One round that is not recorded, then the others, the arms in turns.
  void RunPrompt(const PaperPrompt& prompt, const GreedyOptions& options, PaperRow row,
                 std::ostream& out) {
    const absl::Span<const TokenId> ids = prompt.ids;
    const int32_t cached = prompt.common_tokens;
    const auto suffix = ids.subspan(cached);
    const Feed feeds[] = {
        {{ids.begin(), ids.end()}, 0}, PublishedFeed(suffix, cached), CorrectFeed(suffix, cached)};
    row.label = prompt.label;
    row.prompt_tokens = static_cast<int>(ids.size());
    row.common_tokens = cached;
    model_->Prefill(ids);
    std::optional<client::OutputSimilarity> similarity;
    std::vector<TokenId> cold;
    for (int round = -1; round < settings_.repeats; ++round) {
      for (int i = 0; i < kArms; ++i) {
        const int arm = round < 0 ? i : (i + round) % kArms;
        const int32_t held = arm == kCold ? 0 : cached;
        // What the cold arm writes there again has the same bits.
        model_->Truncate(cached);
        const GreedyReply reply = model_->Generate(feeds[arm], held, options);
        if (round < 0 && arm == kCold) cold = reply.tokens;
        if (round < 0 && arm == kPublished) similarity = Compare(ids, cached, cold, reply.tokens);
        if (round < 0) continue;
        row.repeat = round;
        row.arm = kArmNames[arm];
        row.reused_tokens = held;
        row.similarity = arm == kPublished ? similarity : std::nullopt;
        row.fed = arm == kCold ? "" : FedText(feeds[arm]);
        Write(reply, row, out);
      }
    }
  }

  static std::string FedText(const Feed& feed) {
    int32_t position = feed.first_position;
    return absl::StrJoin(feed.tokens, " ", [&](std::string* text, TokenId id) {
      absl::StrAppend(text, id, "@", position++);
    });
  }

  client::OutputSimilarity Compare(absl::Span<const TokenId> prompt, int32_t cached,
                                   absl::Span<const TokenId> cold,
                                   absl::Span<const TokenId> published) const {
    const size_t both = std::min(cold.size(), published.size());
    const std::string a = TextOf(cold), b = TextOf(published);
    return {encoder_.Similarity(a, b),
            encoder_.Similarity(TextOf(cold.subspan(0, both)), TextOf(published.subspan(0, both))),
            encoder_.Similarity(TextOf(prompt) + a, TextOf(prompt.subspan(cached)) + b)};
  }

  void Write(const GreedyReply& reply, PaperRow& row, std::ostream& out) const {
    row.output = reply.tokens;
    row.output_tokens = static_cast<int>(reply.tokens.size());
    row.reply = TextOf(reply.tokens);
    row.finish = reply.ended ? "STOP" : "MAX_TOKENS";
    row.times.client = row.times.total = reply.total_ms;
    row.times.first_token = row.times.prefill = reply.first_token_ms;
    row.times.decode = reply.total_ms - reply.first_token_ms;
    out << client::ToCsv(row);
  }

  Settings settings_;
  LoadedText text_;
  std::unique_ptr<PositionedModel> model_;
  Encoder encoder_;
};

int Main(int argc, char** argv) {
  Settings settings;
  std::map<std::string, int*> counts{{"--threads", &settings.threads},
                                     {"--repeats", &settings.repeats},
                                     {"--output-tokens", &settings.output_tokens},
                                     {"--equal-tokens", &settings.equal_tokens}};
  bool valid = argc >= 3 && argc % 2 == 1;
  for (int i = 3; valid && i < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--encoder") {
      settings.encoder = argv[i + 1];
    } else {
      valid = counts.contains(name) && absl::SimpleAtoi(argv[i + 1], counts[name]) &&
              *counts[name] >= (name == "--threads" ? 1 : 0);
    }
  }
  if (!valid) {
    std::cerr << "usage: paper_bench MODEL FILE.csv [--encoder FOLDER] [--threads N] [--repeats N] "
                 "[--output-tokens N] [--equal-tokens N]\n";
    return 2;
  }
  std::ofstream out(argv[2]);
  Bench(argv[1], settings).Run(out);
  out.close();
  if (out) return 0;
  std::cerr << "paper_bench: cannot write " << argv[2] << std::endl;
  return 1;
}

}  // namespace
}  // namespace reprise::bench

int main(int argc, char** argv) { return reprise::bench::Main(argc, argv); }
