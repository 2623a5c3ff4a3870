// LoadText reads a model's tokenizer and chat format from a GGUF file or a
// Hugging Face folder.
//
// Errors  kNotFound: no such file; kInvalidArgument naming the field.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/text/chat_template.h"
#include "core/text/tokenizer.h"

namespace reprise {

struct LoadedText {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat;  // refers to the tokenizer
};

absl::StatusOr<LoadedText> LoadText(const std::string& path);

// "none", "chatml", "dialogpt", "llama3".
const char* ChatFormatName(ChatFormat format);

}  // namespace reprise
