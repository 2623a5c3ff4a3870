// Writes models as the files LoadModel reads, whole or broken by the caller.
//
// What a file says lies open in a plain struct; a test changes a field or a
// tensor and writes the bytes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "core/model/load_model.h"

namespace reprise {

struct FileTensor {
  std::string name;
  uint32_t type = 0;           // ggml's number in GGUF; 0, F32, in safetensors
  std::vector<int64_t> shape;  // outermost first
  std::string bytes;
};

using GgufField = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>,
                               std::vector<std::string>>;

struct GgufContents {
  std::map<std::string, GgufField> metadata;
  std::vector<FileTensor> tensors;

  FileTensor& Tensor(const std::string& name);
};

struct HuggingFaceContents {
  std::map<std::string, std::string> config;  // key -> JSON text of the value
  std::vector<FileTensor> tensors;

  FileTensor& Tensor(const std::string& name);
};

// The model, of F32 tensors, under llama.cpp's and Hugging Face's names and in
// their layouts; as a folder GPT-2 or Llama.
GgufContents ToGguf(const LoadedModel& model);
HuggingFaceContents ToHuggingFace(const LoadedModel& model);

std::string WriteGguf(const GgufContents& contents);
std::string WriteSafetensors(const std::vector<FileTensor>& tensors);
std::string WriteJson(const std::map<std::string, std::string>& members);

std::string FloatBytes(const std::vector<float>& values);

}  // namespace reprise
