// Command-line options that make a GenerationSpec; shared by generate and chat.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "reprise/inference/v1/generation.pb.h"

namespace reprise::client {

struct GenerationOptions {
  std::optional<int32_t> max_tokens;
  std::optional<float> temperature;
  std::optional<int32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<int64_t> seed;
  bool ignore_eos = false;
  std::vector<std::string> stop;
  std::string cache_policy = "use";
  std::string retrieval_mode;
  int32_t minimum_reuse = 0;
  std::string speculation;
  std::optional<int32_t> max_draft_tokens;
  std::optional<int32_t> min_ngram;
  std::optional<int32_t> max_ngram;

  void AddTo(CLI::App& command);

  // A spec without a prompt. The parser has already checked the names.
  inference::v1::GenerationSpec ToSpec() const;

 private:
  void AddSpeculation(inference::v1::SpeculationOptions& options) const;
};

}  // namespace reprise::client
