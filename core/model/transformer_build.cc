#include "core/base/status_macros.h"
#include "core/model/transformer.h"
#include "core/model/weight_reader.h"

namespace reprise {

// Packs what a WeightReader finds.
struct Transformer::Builder {
  WeightChoice choice;
  ThreadPool& pool;
  WeightArena arena = {};

  // Matrices stored alike and next to each other become one.
  Linear Pack(LinearSource source) {
    std::vector<PackedMatrix> parts;
    std::vector<const WeightTensor*> run;
    WeightFormat format{};
    const auto finish = [&] {
      if (!run.empty()) parts.push_back(PackedMatrix::Pack(run, format, arena, pool));
      run.clear();
    };
    for (const WeightTensor* tensor : source.matrices) {
      const WeightFormat next = ChooseFormat(choice, tensor->type, tensor->columns());
      if (next != format) finish();
      format = next;
      run.push_back(tensor);
    }
    finish();
    return Linear(std::move(parts), std::move(source.bias));
  }

  Layer Pack(LayerSource source) {
    Layer layer;
    layer.attention_norm = std::move(source.attention_norm);
    layer.mlp_norm = std::move(source.mlp_norm);
    layer.attention_post_norm = std::move(source.attention_post_norm);
    layer.mlp_post_norm = std::move(source.mlp_post_norm);
    layer.q_norm = std::move(source.q_norm);
    layer.k_norm = std::move(source.k_norm);
    layer.qkv = Pack(std::move(source.qkv));
    layer.attention_output = Pack(std::move(source.attention_output));
    layer.up = Pack(std::move(source.up));
    layer.down = Pack(std::move(source.down));
    return layer;
  }
};

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Build(const LoadedModel& model,
                                                                WeightChoice weights,
                                                                const Kernels& kernels,
                                                                ThreadPool& pool) {
  const ModelConfig& config = model.config;
  const WeightReader reader(model);
  Builder builder{weights, pool};
  std::unique_ptr<Transformer> made(new Transformer(config, kernels, pool));
  ASSIGN_OR_RETURN(LinearSource embedding, reader.TokenEmbedding());
  made->token_embedding_ = builder.Pack(std::move(embedding));
  if (!config.tied_embeddings) {
    ASSIGN_OR_RETURN(LinearSource head, reader.LmHead());
    made->lm_head_ = builder.Pack(std::move(head));
  }
  if (!TraitsOf(config.architecture).rotary()) {
    ASSIGN_OR_RETURN(made->position_embedding_, reader.PositionEmbedding());
  }
  for (int i = 0; i < config.num_layers; ++i) {
    ASSIGN_OR_RETURN(LayerSource layer, reader.Layer(i));
    made->layers_.push_back(builder.Pack(std::move(layer)));
    model.weights->DropPages();  // so that no two copies of the model are ever in memory
  }
  ASSIGN_OR_RETURN(made->final_norm_, reader.FinalNorm());
  model.weights->DropPages();
  return made;
}

}  // namespace reprise
