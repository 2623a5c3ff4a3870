// ByteTokenizer: one id a byte, id 256 is EOS. For tests and for models without
// a vocabulary of their own.
#pragma once

#include <memory>

#include "core/text/tokenizer.h"

namespace reprise {

std::unique_ptr<Tokenizer> CreateByteTokenizer();

}  // namespace reprise
