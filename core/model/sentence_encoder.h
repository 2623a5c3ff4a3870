// Sentence encoder: MiniLM-type BERT with mean pooling, on libtorch.
//
// Source     Reimers and Gurevych 2019, arXiv 1908.10084.
// Threading  the callable is used by one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace reprise {

struct SentenceEncoderModel {
  // Maps WordPiece ids, [CLS] and [SEP] included, at most max_tokens of them,
  // to a unit vector of `dimensions` floats.
  std::function<absl::StatusOr<std::vector<float>>(absl::Span<const int32_t>)> encode;

  // The same of several texts in one forward pass, in their order. A vector may differ from
  // what `encode` makes of its text in the last bits.
  std::function<absl::StatusOr<std::vector<std::vector<float>>>(
      absl::Span<const std::vector<int32_t>>)>
      encode_batch;
  int dimensions = 0;
  int max_tokens = 256;
  int64_t weight_bytes = 0;  // in memory
};

// Loads a Hugging Face folder (config.json, model.safetensors). Errors as LoadModel.
absl::StatusOr<SentenceEncoderModel> LoadSentenceEncoder(const std::string& folder,
                                                         int num_threads);

}  // namespace reprise
