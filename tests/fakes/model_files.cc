#include "tests/fakes/model_files.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "core/model/architectures/architecture.h"

namespace reprise {
namespace {

constexpr size_t kAlignment = 32;

template <typename T>
void Put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void PutString(std::string& out, const std::string& text) {
  Put<uint64_t>(out, text.size());
  out += text;
}

// The format's numbers of value types, and their bytes.
struct FieldWriter {
  std::string& out;

  void operator()(bool value) const { Tag(7), Put<uint8_t>(out, value ? 1 : 0); }
  void operator()(int64_t value) const { Tag(11), Put(out, value); }
  void operator()(double value) const { Tag(12), Put(out, value); }
  void operator()(const std::string& value) const { Tag(8), PutString(out, value); }
  void operator()(const std::vector<int64_t>& values) const {
    Array(11, values.size());
    for (const int64_t value : values) Put(out, value);
  }
  void operator()(const std::vector<std::string>& values) const {
    Array(8, values.size());
    for (const std::string& value : values) PutString(out, value);
  }

  void Tag(uint32_t type) const { Put(out, type); }
  void Array(uint32_t element, size_t size) const {
    Tag(9), Tag(element);
    Put<uint64_t>(out, size);
  }
};

template <typename Contents>
FileTensor& Find(Contents& contents, const std::string& name) {
  for (FileTensor& tensor : contents.tensors) {
    if (tensor.name == name) return tensor;
  }
  throw std::out_of_range(name);
}

FileTensor CopyOf(const WeightTensor& tensor, const std::string& name) {
  return {name, 0, tensor.shape, std::string(AsText(tensor.bytes))};
}

const WeightTensor& Weight(const LoadedModel& model, const std::string& name) {
  return **model.weights->Find(name);
}

// Row i of the result is row source(i) of `tensor`.
template <typename Source>
FileTensor ReorderRows(FileTensor tensor, Source source) {
  const size_t rows = tensor.shape[0], row_bytes = tensor.bytes.size() / rows;
  const std::string from = tensor.bytes;
  for (size_t i = 0; i < rows; ++i) {
    std::memcpy(&tensor.bytes[i * row_bytes], &from[source(i) * row_bytes], row_bytes);
  }
  return tensor;
}

// llama.cpp: reshape(heads, 2, head_dim / 2, columns).swapaxes(1, 2).
FileTensor Interleave(FileTensor tensor, size_t head_dim) {
  return ReorderRows(std::move(tensor), [head_dim](size_t row) {
    const size_t within = row % head_dim;
    return row - within + within % 2 * (head_dim / 2) + within / 2;
  });
}

// Conv1D keeps [in, out].
FileTensor Transpose(FileTensor tensor) {
  const int64_t rows = tensor.shape[0], columns = tensor.shape[1];
  const std::string from = tensor.bytes;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      std::memcpy(&tensor.bytes[(c * rows + r) * 4], &from[(r * columns + c) * 4], 4);
    }
  }
  tensor.shape = {columns, rows};
  return tensor;
}

// q, k and v of GPT-2 behind each other by rows; `suffix` is "weight" or "bias".
FileTensor FuseQkv(const LoadedModel& model, const std::string& layer, const std::string& suffix,
                   const std::string& name) {
  FileTensor fused = CopyOf(Weight(model, layer + "attention.q." + suffix), name);
  for (const char* part : {"attention.k.", "attention.v."}) {
    const WeightTensor& tensor = Weight(model, absl::StrCat(layer, part, suffix));
    fused.shape[0] += tensor.shape[0];
    fused.bytes += std::string(AsText(tensor.bytes));
  }
  return fused;
}

// The canonical name with the second of each pair in the place of the first.
std::string Rename(const std::string& name,
                   const std::vector<std::pair<absl::string_view, absl::string_view>>& renames) {
  return absl::StrReplaceAll(name, renames);
}

std::string GgufName(const std::string& name) {
  return Rename(name, {{"token_embedding", "token_embd.weight"},
                       {"position_embedding", "position_embd.weight"},
                       {"final_norm", "output_norm"},
                       {"lm_head", "output.weight"},
                       {"layers.", "blk."},
                       {"attention_norm", "attn_norm"},
                       {"attention_post_norm", "post_attention_norm"},
                       {"mlp_norm", "ffn_norm"},
                       {"mlp_post_norm", "post_ffw_norm"},
                       {"q_norm", "attn_q_norm"},
                       {"k_norm", "attn_k_norm"},
                       {"attention.", "attn_"},
                       {"mlp.", "ffn_"}});
}

std::string LlamaName(const std::string& name) {
  if (name == "lm_head") return "lm_head.weight";
  return "model." + Rename(name, {{"token_embedding", "embed_tokens.weight"},
                                  {"final_norm", "norm"},
                                  {"attention_norm", "input_layernorm"},
                                  {"mlp_norm", "post_attention_layernorm"},
                                  {"attention.output", "self_attn.o_proj"},
                                  {"attention.q", "self_attn.q_proj"},
                                  {"attention.k", "self_attn.k_proj"},
                                  {"attention.v", "self_attn.v_proj"},
                                  {"mlp.gate", "mlp.gate_proj"},
                                  {"mlp.up", "mlp.up_proj"},
                                  {"mlp.down", "mlp.down_proj"}});
}

std::string Gpt2Name(const std::string& name) {
  return "transformer." + Rename(name, {{"token_embedding", "wte.weight"},
                                        {"position_embedding", "wpe.weight"},
                                        {"final_norm", "ln_f"},
                                        {"layers.", "h."},
                                        {"attention_norm", "ln_1"},
                                        {"mlp_norm", "ln_2"},
                                        {"attention.output", "attn.c_proj"},
                                        {"mlp.up", "mlp.c_fc"},
                                        {"mlp.down", "mlp.c_proj"}});
}

bool IsQkv(const std::string& name) {
  return absl::StrContains(name, "attention.q.") || absl::StrContains(name, "attention.k.") ||
         absl::StrContains(name, "attention.v.");
}

bool IsMatrix(const WeightTensor& tensor) {
  return tensor.shape.size() == 2 && !absl::EndsWith(tensor.name, "_embedding");
}

std::string Number(double value) { return absl::StrCat(value); }

}  // namespace

FileTensor& GgufContents::Tensor(const std::string& name) { return Find(*this, name); }
FileTensor& HuggingFaceContents::Tensor(const std::string& name) { return Find(*this, name); }

GgufContents ToGguf(const LoadedModel& model) {
  const ModelConfig& c = model.config;
  const GgufLayout& layout = DefinitionOf(c.architecture).gguf;
  const bool rotary = TraitsOf(c.architecture).rotary();
  const std::string arch(layout.name);
  GgufContents out;
  out.metadata = {{"general.architecture", arch},
                  {"general.name", c.name},
                  {arch + ".block_count", int64_t{c.num_layers}},
                  {arch + ".embedding_length", int64_t{c.hidden_size}},
                  {arch + ".attention.head_count", int64_t{c.num_heads}},
                  {arch + ".feed_forward_length", int64_t{c.intermediate_size}},
                  {arch + ".context_length", int64_t{c.context_length}}};
  if (rotary) {
    out.metadata[arch + ".attention.head_count_kv"] = int64_t{c.num_kv_heads};
    out.metadata[arch + ".attention.layer_norm_rms_epsilon"] = c.norm_epsilon;
    out.metadata[arch + ".rope.freq_base"] = c.rope.theta;
  } else {
    out.metadata[arch + ".attention.layer_norm_epsilon"] = c.norm_epsilon;
  }
  if (!c.windows.empty()) {
    out.metadata[arch + ".attention.sliding_window"] = int64_t{c.windows[0]};
  }
  for (const WeightTensor& tensor : model.weights->tensors()) {
    if (!rotary && IsQkv(tensor.name)) continue;
    FileTensor copy = CopyOf(tensor, GgufName(tensor.name));
    const bool rotated =
        layout.interleaved_rope && (absl::EndsWith(tensor.name, "attention.q.weight") ||
                                    absl::EndsWith(tensor.name, "attention.k.weight"));
    out.tensors.push_back(rotated ? Interleave(std::move(copy), c.head_dim) : std::move(copy));
  }
  for (int i = 0; !rotary && i < c.num_layers; ++i) {
    for (const char* suffix : {"weight", "bias"}) {
      out.tensors.push_back(FuseQkv(model, absl::StrCat("layers.", i, "."), suffix,
                                    absl::StrCat("blk.", i, ".attn_qkv.", suffix)));
    }
  }
  return out;
}

HuggingFaceContents ToHuggingFace(const LoadedModel& model) {
  const ModelConfig& c = model.config;
  const bool llama = c.architecture == Architecture::kLlama;
  HuggingFaceContents out;
  out.config["vocab_size"] = Number(c.vocabulary_size);
  out.config["tie_word_embeddings"] = c.tied_embeddings ? "true" : "false";
  out.config["model_type"] = llama ? "\"llama\"" : "\"gpt2\"";
  out.config[llama ? "num_hidden_layers" : "n_layer"] = Number(c.num_layers);
  out.config[llama ? "hidden_size" : "n_embd"] = Number(c.hidden_size);
  out.config[llama ? "num_attention_heads" : "n_head"] = Number(c.num_heads);
  out.config[llama ? "intermediate_size" : "n_inner"] = Number(c.intermediate_size);
  out.config[llama ? "max_position_embeddings" : "n_positions"] = Number(c.context_length);
  out.config[llama ? "rms_norm_eps" : "layer_norm_epsilon"] = Number(c.norm_epsilon);
  if (llama) out.config["num_key_value_heads"] = Number(c.num_kv_heads);
  for (const WeightTensor& tensor : model.weights->tensors()) {
    if (llama) {
      out.tensors.push_back(CopyOf(tensor, LlamaName(tensor.name)));
    } else if (!IsQkv(tensor.name)) {
      FileTensor copy = CopyOf(tensor, Gpt2Name(tensor.name));
      out.tensors.push_back(IsMatrix(tensor) ? Transpose(std::move(copy)) : std::move(copy));
    }
  }
  for (int i = 0; !llama && i < c.num_layers; ++i) {
    const std::string layer = absl::StrCat("layers.", i, ".");
    const std::string name = absl::StrCat("transformer.h.", i, ".attn.c_attn.");
    out.tensors.push_back(Transpose(FuseQkv(model, layer, "weight", name + "weight")));
    out.tensors.push_back(FuseQkv(model, layer, "bias", name + "bias"));
  }
  return out;
}

std::string WriteGguf(const GgufContents& contents) {
  std::string out = "GGUF", data;
  Put<uint32_t>(out, 3);
  Put<uint64_t>(out, contents.tensors.size());
  Put<uint64_t>(out, contents.metadata.size());
  for (const auto& [key, value] : contents.metadata) {
    PutString(out, key);
    std::visit(FieldWriter{out}, value);
  }
  for (const FileTensor& tensor : contents.tensors) {
    PutString(out, tensor.name);
    Put(out, static_cast<uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) Put(out, *size);
    Put(out, tensor.type);
    Put<uint64_t>(out, data.size());
    data += tensor.bytes;
    data.resize((data.size() + kAlignment - 1) / kAlignment * kAlignment);
  }
  out.resize((out.size() + kAlignment - 1) / kAlignment * kAlignment);
  return out + data;
}

std::string WriteSafetensors(const std::vector<FileTensor>& tensors) {
  std::map<std::string, std::string> header;
  std::string data;
  for (const FileTensor& tensor : tensors) {
    header[tensor.name] = absl::StrCat(R"({"dtype":"F32","shape":[)",
                                       absl::StrJoin(tensor.shape, ","), R"(],"data_offsets":[)",
                                       data.size(), ",", data.size() + tensor.bytes.size(), "]}");
    data += tensor.bytes;
  }
  const std::string json = WriteJson(header);
  std::string out;
  PutString(out, json);
  return out + data;
}

std::string WriteJson(const std::map<std::string, std::string>& members) {
  return absl::StrCat("{",
                      absl::StrJoin(members, ",",
                                    [](std::string* out, const auto& member) {
                                      absl::StrAppend(out, "\"", member.first,
                                                      "\":", member.second);
                                    }),
                      "}");
}

std::string FloatBytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

}  // namespace reprise
