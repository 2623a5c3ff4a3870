#include "core/text/load_text.h"

#include <sys/stat.h>

#include "core/base/gguf.h"
#include "core/base/json.h"
#include "core/base/mapped_file.h"
#include "core/base/status_macros.h"
#include "core/text/bpe_tokenizer.h"

namespace reprise {
namespace {

struct Source {
  TokenizerSpec spec;
  std::string architecture;
};

absl::StatusOr<Source> ReadGguf(const std::string& path) {
  ASSIGN_OR_RETURN(const auto map, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const GgufFile file, ParseGguf(map->bytes()));
  Source source;
  ASSIGN_OR_RETURN(source.spec, ReadGgufTokenizer(file));
  ASSIGN_OR_RETURN(source.architecture, file.StringOr("general.architecture", ""));
  return source;
}

absl::StatusOr<Source> ReadFolder(const std::string& path) {
  Source source;
  ASSIGN_OR_RETURN(source.spec, ReadTokenizerFolder(path));
  ASSIGN_OR_RETURN(const auto map, MappedFile::Open(path + "/config.json"));
  ASSIGN_OR_RETURN(const JsonValue config, JsonValue::Parse(AsText(map->bytes())));
  ASSIGN_OR_RETURN(source.architecture, config.StringOr("model_type", ""));
  return source;
}

}  // namespace

const char* ChatFormatName(ChatFormat format) {
  switch (format) {
    case ChatFormat::kNone:
      return "none";
    case ChatFormat::kChatMl:
      return "chatml";
    case ChatFormat::kDialoGpt:
      return "dialogpt";
    case ChatFormat::kLlama3:
      return "llama3";
    case ChatFormat::kGemma:
      return "gemma";
  }
  return "";
}

absl::StatusOr<LoadedText> LoadText(const std::string& path) {
  struct stat info;
  const bool folder = stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  ASSIGN_OR_RETURN(const Source source, folder ? ReadFolder(path) : ReadGguf(path));
  LoadedText text;
  ASSIGN_OR_RETURN(text.tokenizer, CreateBpeTokenizer(source.spec));
  const ChatFormat format =
      DetectChatFormat(source.spec.chat_template, source.architecture, *text.tokenizer);
  text.chat = std::make_unique<ChatTemplate>(
      format, text.tokenizer.get(),
      ChatTemplate::DefaultSystemFromTemplate(source.spec.chat_template));
  return text;
}

}  // namespace reprise
