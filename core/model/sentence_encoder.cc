#include "core/model/sentence_encoder.h"

#include <torch/torch.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/base/mapped_file.h"
#include "core/base/safetensors.h"
#include "core/base/status_macros.h"

namespace reprise {
namespace {

using torch::Tensor;

struct EncoderConfig {
  int64_t hidden = 0, layers = 0, heads = 0, positions = 0;
  double epsilon = 1e-12;
};

absl::StatusOr<EncoderConfig> ReadConfig(const std::string& folder) {
  ASSIGN_OR_RETURN(const auto map, MappedFile::Open(folder + "/config.json"));
  ASSIGN_OR_RETURN(const JsonValue json, JsonValue::Parse(AsText(map->bytes())));
  EncoderConfig config;
  for (auto [key, field] :
       {std::pair("hidden_size", &config.hidden), std::pair("num_hidden_layers", &config.layers),
        std::pair("num_attention_heads", &config.heads),
        std::pair("max_position_embeddings", &config.positions)}) {
    ASSIGN_OR_RETURN(*field, json.IntOr(key, 0));
    if (*field < 1 || *field > (1 << 16)) {
      return absl::InvalidArgumentError(
          absl::StrCat(folder, "/config.json: ", key, " is ", *field, ", expected 1 to 65536"));
    }
  }
  ASSIGN_OR_RETURN(config.epsilon, json.DoubleOr("layer_norm_eps", 1e-12));
  return config;
}

// BERT with post-layer norms. libtorch throws; only Encode and Load, which
// catch, may be called.
class Encoder {
 public:
  absl::Status Load(const std::string& folder) {
    ASSIGN_OR_RETURN(config_, ReadConfig(folder));
    ASSIGN_OR_RETURN(const auto map, MappedFile::Open(folder + "/model.safetensors"));
    ASSIGN_OR_RETURN(const auto tensors, ParseSafetensors(map->bytes()));
    for (const SafetensorsTensor& tensor : tensors) {
      if (tensor.type != SafetensorsType::kF32) continue;
      void* data = const_cast<uint8_t*>(tensor.bytes.data());
      // A copy, so that the file's pages need not stay.
      Tensor& weight = weights_[tensor.name];
      weight = torch::from_blob(data, tensor.shape, torch::kFloat32).clone();
      weight_bytes_ += weight.numel() * weight.element_size();
    }
    // A pass over a short text finds every missing or misshapen tensor.
    return Encode({{101, 102}}).status();
  }

  int hidden() const { return static_cast<int>(config_.hidden); }
  int positions() const { return static_cast<int>(config_.positions); }
  int64_t weight_bytes() const { return weight_bytes_; }

  // Unit vectors of texts of at least one WordPiece each.
  absl::StatusOr<std::vector<std::vector<float>>> Encode(
      absl::Span<const std::vector<int32_t>> texts) const {
    try {
      const c10::InferenceMode guard;
      size_t longest = 0;
      for (const auto& text : texts) longest = std::max(longest, text.size());
      const auto rows = static_cast<int64_t>(texts.size());
      const auto columns = static_cast<int64_t>(longest);
      Tensor ids = torch::zeros({rows, columns}, torch::kInt64);
      Tensor mask = torch::zeros({rows, columns}, torch::kBool);
      for (int64_t row = 0; row < rows; ++row) {
        const std::vector<int32_t>& text = texts[static_cast<size_t>(row)];
        const auto size = static_cast<int64_t>(text.size());
        ids[row].narrow(0, 0, size).copy_(torch::tensor(text, torch::kInt64));
        mask[row].narrow(0, 0, size).fill_(true);
      }
      return Pool(Forward(ids, mask), mask);
    } catch (const std::exception& error) {
      return absl::InternalError(absl::StrCat("sentence encoder: ", error.what()));
    }
  }

 private:
  const Tensor& Weight(const std::string& name) const {
    const auto found = weights_.find(name);
    TORCH_CHECK(found != weights_.end(), "tensor ", name, " is missing");
    return found->second;
  }

  Tensor Linear(const std::string& name, const Tensor& x) const {
    return torch::linear(x, Weight(name + ".weight"), Weight(name + ".bias"));
  }

  Tensor LayerNorm(const std::string& name, const Tensor& x) const {
    return torch::layer_norm(x, {config_.hidden}, Weight(name + ".weight"), Weight(name + ".bias"),
                             config_.epsilon);
  }

  // The mean over what is no padding, of length one.
  static std::vector<std::vector<float>> Pool(const Tensor& x, const Tensor& mask) {
    const Tensor weights = mask.to(torch::kFloat32).unsqueeze(2);  // [texts, tokens, 1]
    const Tensor means = (x * weights).sum(1) / weights.sum(1);
    const Tensor pooled = torch::nn::functional::normalize(
                              means, torch::nn::functional::NormalizeFuncOptions().dim(1))
                              .contiguous();
    std::vector<std::vector<float>> vectors;
    for (int64_t row = 0; row < pooled.size(0); ++row) {
      const float* data = pooled.data_ptr<float>() + row * pooled.size(1);
      vectors.emplace_back(data, data + pooled.size(1));
    }
    return vectors;
  }

  Tensor Heads(const Tensor& x) const {  // [texts, tokens, hidden] -> [texts, heads, tokens, dim]
    return x.view({x.size(0), x.size(1), config_.heads, config_.hidden / config_.heads})
        .transpose(1, 2);
  }

  // [texts, tokens] -> [texts, tokens, hidden]; what `mask` leaves out has no part in the rest.
  Tensor Forward(const Tensor& ids, const Tensor& mask) const {
    const int64_t tokens = ids.size(1);
    // Without padding the kernel need not look at a mask.
    c10::optional<Tensor> attended;
    if (!mask.all().item<bool>()) attended = mask.view({ids.size(0), 1, 1, tokens});
    Tensor x = torch::embedding(Weight("embeddings.word_embeddings.weight"), ids) +
               Weight("embeddings.position_embeddings.weight").narrow(0, 0, tokens) +
               Weight("embeddings.token_type_embeddings.weight").select(0, 0);
    x = LayerNorm("embeddings.LayerNorm", x);
    for (int64_t i = 0; i < config_.layers; ++i) {
      const std::string layer = absl::StrCat("encoder.layer.", i, ".");
      const std::string attention = layer + "attention.self.";
      const Tensor mixed = torch::scaled_dot_product_attention(
          Heads(Linear(attention + "query", x)), Heads(Linear(attention + "key", x)),
          Heads(Linear(attention + "value", x)), attended);
      const Tensor joined = mixed.transpose(1, 2).reshape({ids.size(0), tokens, config_.hidden});
      x = LayerNorm(layer + "attention.output.LayerNorm",
                    x + Linear(layer + "attention.output.dense", joined));
      const Tensor inner = torch::gelu(Linear(layer + "intermediate.dense", x));
      x = LayerNorm(layer + "output.LayerNorm", x + Linear(layer + "output.dense", inner));
    }
    return x;
  }

  EncoderConfig config_;
  std::map<std::string, Tensor> weights_;
  int64_t weight_bytes_ = 0;
};

}  // namespace

absl::StatusOr<SentenceEncoderModel> LoadSentenceEncoder(const std::string& folder,
                                                         int num_threads) {
  auto encoder = std::make_shared<Encoder>();
  at::set_num_threads(num_threads);
  RETURN_IF_ERROR(encoder->Load(folder));
  SentenceEncoderModel model;
  model.dimensions = encoder->hidden();
  model.weight_bytes = encoder->weight_bytes();
  model.max_tokens = std::min(model.max_tokens, encoder->positions());
  model.encode_batch = [encoder,
                        limit = model.max_tokens](absl::Span<const std::vector<int32_t>> texts)
      -> absl::StatusOr<std::vector<std::vector<float>>> {
    for (const auto& text : texts) {
      if (text.empty() || text.size() > static_cast<size_t>(limit)) {
        return absl::InvalidArgumentError(
            absl::StrCat(text.size(), " WordPieces, expected 1 to ", limit));
      }
    }
    if (texts.empty()) return std::vector<std::vector<float>>();
    return encoder->Encode(texts);
  };
  model.encode = [batch = model.encode_batch](
                     absl::Span<const int32_t> ids) -> absl::StatusOr<std::vector<float>> {
    const std::vector<int32_t> text(ids.begin(), ids.end());
    ASSIGN_OR_RETURN(auto vectors, batch({&text, 1}));
    return std::move(vectors.front());
  };
  return model;
}

}  // namespace reprise
