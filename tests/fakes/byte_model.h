// The facts of a model whose vocabulary is bytes, for tests of request handling.
#pragma once

#include <memory>

#include "core/text/byte_tokenizer.h"
#include "core/text/chat_template.h"
#include "server/request_checks.h"

namespace reprise::server {

// Owns what `facts` points to.
struct ByteModel {
  std::unique_ptr<Tokenizer> tokenizer = CreateByteTokenizer();
  ChatTemplate chat{ChatFormat::kDialoGpt, tokenizer.get(), ""};
  ModelFacts facts;

  explicit ByteModel(int32_t context_length) {
    facts.name = "bytes";
    facts.architecture = "scripted";
    facts.numerics_id = "scripted";
    facts.context_length = context_length;
    facts.vocabulary_size = tokenizer->vocabulary_size();
    facts.default_max_output_tokens = 16;
    facts.tokenizer = tokenizer.get();
    facts.chat = &chat;
  }
};

}  // namespace reprise::server
