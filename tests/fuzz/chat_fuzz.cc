// Chat templates: the template's source and a conversation. An input is a byte that
// chooses the format, the source, and messages, separated by zero bytes.
#include "absl/strings/str_split.h"
#include "core/text/bpe_tokenizer.h"
#include "core/text/byte_alphabet.h"
#include "core/text/chat_template.h"
#include "core/text/utf8.h"
#include "tests/fuzz/fuzz.h"

namespace reprise::fuzz {
namespace {

constexpr const char* kSpecials[] = {"<|im_start|>", "<|im_end|>",          "<|begin_of_text|>",
                                     "<|eot_id|>",   "<|start_header_id|>", "<|end_header_id|>",
                                     "<bos>",        "<start_of_turn>",     "<end_of_turn>"};

std::unique_ptr<Tokenizer> MakeTokenizer() {
  TokenizerSpec spec;
  spec.tokens.assign(ByteLetters().begin(), ByteLetters().end());
  for (const char* special : kSpecials) {
    spec.special.push_back(static_cast<TokenId>(spec.tokens.size()));
    spec.tokens.emplace_back(special);
  }
  spec.eos = 257;
  auto tokenizer = CreateBpeTokenizer(spec);
  Require(tokenizer.ok(), "the vocabulary makes a tokenizer");
  return *std::move(tokenizer);
}

size_t CountSpecial(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  return std::count_if(ids.begin(), ids.end(), [&](TokenId id) { return tokenizer.IsSpecial(id); });
}

// Users and the assistant in turn, a user last.
std::vector<ChatMessage> Conversation(const std::vector<std::string>& contents) {
  std::vector<ChatMessage> messages;
  for (size_t i = 0; i < contents.size(); ++i) {
    const bool user = (contents.size() - i) % 2 == 1;
    messages.push_back({user ? ChatRole::kUser : ChatRole::kAssistant, contents[i]});
  }
  if (!messages.empty() && messages[0].role == ChatRole::kAssistant) {
    messages[0].role = ChatRole::kSystem;
  }
  return messages;
}

}  // namespace

std::vector<std::string> FuzzSeeds() {
  using std::string_literals::operator""s;
  return {"\1{{'<|im_start|>system\\nYou are helpful<|im_end|>\\n'}}\0Hello\0Hi <|im_end|>\0And?"s,
          "\2x\0user text \xE2\x82\xAC"s,
          "\3<|start_header_id|>system<|end_header_id|><|eot_id|>\0You\0  <|eot_id|> trim me \n"s,
          "\4{{ bos_token }}<start_of_turn>user\0You\0 <end_of_turn> trim me \n"s,
          "\1<|im_start|>system\n\xFF\xFE<|im_end|>\0q"s};
}

}  // namespace reprise::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;
  static const auto tokenizer = fuzz::MakeTokenizer();
  if (size == 0) return 0;
  std::vector<std::string> parts = absl::StrSplit(fuzz::Text(data + 1, size - 1), '\0');
  const std::string source = parts[0];
  parts.erase(parts.begin());
  (void)DetectChatFormat(source, "llama", *tokenizer);
  const auto format = static_cast<ChatFormat>(data[0] % 5);
  const ChatTemplate chat(format, tokenizer.get(), ChatTemplate::DefaultSystemFromTemplate(source));
  const auto messages = fuzz::Conversation(parts);
  const auto ids = chat.Render(messages);
  const bool valid = std::none_of(parts.begin(), parts.end(), [](const std::string& content) {
    return FindInvalidUtf8(content).has_value();
  });
  fuzz::Require(ids.ok() == (format != ChatFormat::kNone && valid && !parts.empty()),
                "a conversation in order and in UTF-8 is rendered");
  if (!ids.ok()) return 0;
  for (auto& part : parts) part = "x";
  const auto plain = chat.Render(fuzz::Conversation(parts));
  fuzz::Require(fuzz::CountSpecial(*tokenizer, *ids) == fuzz::CountSpecial(*tokenizer, *plain),
                "no content becomes a special token");
  return 0;
}
