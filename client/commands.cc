#include "client/commands.h"

#include <iostream>
#include <iterator>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/format.h"
#include "client/generation_options.h"

namespace reprise::client {
namespace {

using inference::v1::ChatMessage;
using inference::v1::Conversation;
using inference::v1::Generation;
using inference::v1::GenerationSpec;
using inference::v1::Prompt;

// A prompt from the command line: plain text, with --chat one user turn, or with --ids tokens.
struct PromptOptions {
  std::string text;
  bool chat = false;
  bool ids = false;
  std::string system;

  void AddTo(CLI::App& command) {
    command.add_option("prompt", text, "the prompt; - reads standard input")->required();
    CLI::Option* turn = command.add_flag(
        "--chat", chat, "wrap the prompt as a user turn of the model's chat format");
    command.add_option("--system", system, "system message, with --chat")->needs(turn);
    command.add_flag("--ids", ids, "the prompt is token ids, separated by spaces or commas")
        ->excludes(turn);
  }

  absl::StatusOr<Prompt> ToPrompt() const {
    Prompt prompt;
    const std::string content =
        text == "-" ? std::string(std::istreambuf_iterator<char>(std::cin), {}) : text;
    if (ids) return ParseIds(content);
    if (!chat) {
      prompt.set_text(content);
      return prompt;
    }
    Conversation& conversation = *prompt.mutable_conversation();
    if (!system.empty()) AddMessage(conversation, inference::v1::CHAT_ROLE_SYSTEM, system);
    AddMessage(conversation, inference::v1::CHAT_ROLE_USER, content);
    return prompt;
  }

  static absl::StatusOr<Prompt> ParseIds(absl::string_view content) {
    Prompt prompt;
    for (const absl::string_view word :
         absl::StrSplit(content, absl::ByAnyChar(" ,\n\t"), absl::SkipEmpty())) {
      int32_t id = 0;
      if (!absl::SimpleAtoi(word, &id)) {
        return absl::InvalidArgumentError(
            absl::StrCat("prompt: \"", word, "\", expected a token id"));
      }
      prompt.mutable_token_ids()->add_ids(id);
    }
    return prompt;
  }

  static void AddMessage(Conversation& conversation, inference::v1::ChatRole role,
                         const std::string& content) {
    ChatMessage& message = *conversation.add_messages();
    message.set_role(role);
    message.set_content(content);
  }
};

// Streams a reply to standard output, then its summary to standard error.
absl::StatusOr<Generation> StreamReply(Client& client, const GenerationSpec& spec) {
  bool begun = false;
  auto reply = client.StreamGenerate(spec, [&begun](const inference::v1::TokenChunk& chunk) {
    std::cout << chunk.text() << std::flush;
    begun = true;
  });
  if (begun || reply.ok()) std::cout << std::endl;
  if (!reply.ok()) return reply;
  std::cerr << SummaryLine(*reply) << std::endl;
  return reply;
}

int RunGenerate(const GlobalOptions& globals, const GenerationSpec& spec) {
  Client client = globals.Connect();
  const auto reply = globals.json ? client.Generate(spec) : StreamReply(client, spec);
  if (!reply.ok()) return ReportFailure(reply.status());
  if (globals.json) std::cout << ToJson(*reply) << std::endl;
  return 0;
}

int RunChat(const GlobalOptions& globals, const GenerationSpec& options,
            const std::string& system) {
  Client client = globals.Connect();
  GenerationSpec spec = options;
  Conversation& conversation = *spec.mutable_prompt()->mutable_conversation();
  if (!system.empty()) {
    PromptOptions::AddMessage(conversation, inference::v1::CHAT_ROLE_SYSTEM, system);
  }
  std::cerr << "One message a line; an empty line or end of input ends the chat." << std::endl;
  std::string line;
  while (std::cerr << "> " << std::flush, std::getline(std::cin, line) && !line.empty()) {
    PromptOptions::AddMessage(conversation, inference::v1::CHAT_ROLE_USER, line);
    const auto reply = globals.json ? client.Generate(spec) : StreamReply(client, spec);
    if (absl::IsInvalidArgument(reply.status())) {  // this message is refused; the chat goes on
      ReportFailure(reply.status());
      conversation.mutable_messages()->RemoveLast();
      continue;
    }
    if (!reply.ok()) return ReportFailure(reply.status());
    if (globals.json) std::cout << ToJson(*reply) << std::endl;
    PromptOptions::AddMessage(conversation, inference::v1::CHAT_ROLE_ASSISTANT, reply->text());
  }
  return 0;
}

// Prints a reply that is only looked at: JSON, or what `text` makes of it.
template <typename Message, typename Text>
int Show(const GlobalOptions& globals, const absl::StatusOr<Message>& reply, Text text) {
  if (!reply.ok()) return ReportFailure(reply.status());
  if (globals.json) {
    std::cout << ToJson(*reply) << std::endl;
  } else {
    std::cout << text(*reply);
  }
  return 0;
}

}  // namespace

Client GlobalOptions::Connect() const {
  ClientOptions options = client;
  options.timeout = absl::Seconds(timeout_seconds);
  return Client(options);
}

int ReportFailure(const absl::Status& status) {
  std::cerr << "reprise: " << absl::StatusCodeToString(status.code()) << ": " << status.message()
            << std::endl;
  return absl::IsUnavailable(status) ? kExitUnavailable : kExitFailed;
}

void AddGenerateCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen) {
  CLI::App* command = app.add_subcommand("generate", "Generate from one prompt, streaming");
  auto prompt = std::make_shared<PromptOptions>();
  auto options = std::make_shared<GenerationOptions>();
  prompt->AddTo(*command);
  options->AddTo(*command);
  command->callback([=, &globals, &chosen] {
    chosen = [=, &globals] {
      GenerationSpec spec = options->ToSpec();
      auto given = prompt->ToPrompt();
      if (!given.ok()) return ReportFailure(given.status());
      *spec.mutable_prompt() = *std::move(given);
      return RunGenerate(globals, spec);
    };
  });
}

void AddChatCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen) {
  CLI::App* command = app.add_subcommand("chat", "Talk to the model, turn by turn");
  auto system = std::make_shared<std::string>();
  auto options = std::make_shared<GenerationOptions>();
  command->add_option("--system", *system, "system message");
  options->AddTo(*command);
  command->callback([=, &globals, &chosen] {
    chosen = [=, &globals] { return RunChat(globals, options->ToSpec(), *system); };
  });
}

void AddExplainCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen) {
  CLI::App* command =
      app.add_subcommand("explain", "Say what would be reused for a prompt, and why");
  auto prompt = std::make_shared<PromptOptions>();
  auto context = std::make_shared<int32_t>(0);
  prompt->AddTo(*command);
  command->add_option("--context", *context,
                      "tokens shown on each side of where the prompts part (default 8)");
  command->callback([=, &globals, &chosen] {
    chosen = [=, &globals] {
      inference::v1::ExplainPromptRequest request;
      auto given = prompt->ToPrompt();
      if (!given.ok()) return ReportFailure(given.status());
      *request.mutable_prompt() = *std::move(given);
      request.set_context_token_count(*context);
      return Show(globals, globals.Connect().ExplainPrompt(request), ExplanationText);
    };
  });
}

void AddStatsCommand(CLI::App& app, const GlobalOptions& globals, Command& chosen) {
  CLI::App* command = app.add_subcommand("stats", "Show what the cache holds");
  command->callback([&globals, &chosen] {
    chosen = [&globals] { return Show(globals, globals.Connect().GetCacheStats(), StatsText); };
  });
}

}  // namespace reprise::client
