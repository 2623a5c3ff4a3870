// BPE: the Tokenizer of GPT-2, SmolLM, Llama-3 and Qwen2 models, over bytes, and of
// Gemma models, over characters as SentencePiece has them.
//
// Source  Sennrich et al. 2016, arXiv 1508.07909; byte alphabet of GPT-2.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "core/text/tokenizer.h"
#include "core/text/tokenizer_spec.h"

namespace reprise {

// kInvalidArgument: a merge, a byte token or a special id that the vocabulary lacks, or more ids
// without a token than any model has.
absl::StatusOr<std::unique_ptr<Tokenizer>> CreateBpeTokenizer(const TokenizerSpec& spec);

}  // namespace reprise
