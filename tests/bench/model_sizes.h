// How much of a model one token reads and multiplies.
#pragma once

#include "absl/strings/string_view.h"
#include "core/model/load_model.h"
#include "core/model/weight_format.h"

namespace reprise::bench {

struct PackedSizes {
  double bytes = 0;           // of the packed matrices that one token reads
  double layer_elements = 0;  // of the layers' matrices, which every token of a prompt multiplies
};

// Of `model` packed as `choice` says.
inline PackedSizes CountWeights(const LoadedModel& model, WeightChoice choice) {
  PackedSizes sizes;
  for (const WeightTensor& tensor : model.weights->tensors()) {
    if (tensor.shape.size() != 2 || tensor.name == "position_embedding") continue;
    if (tensor.name == "token_embedding" && !model.config.tied_embeddings) continue;
    const WeightFormat format = ChooseFormat(choice, tensor.type, tensor.columns());
    const int64_t panels = (tensor.rows() + kPanelColumns - 1) / kPanelColumns;
    sizes.bytes +=
        static_cast<double>(panels) * static_cast<double>(PanelBytes(format, tensor.columns()));
    if (absl::string_view(tensor.name).substr(0, 7) == "layers.") {
      sizes.layer_elements += static_cast<double>(tensor.rows() * tensor.columns());
    }
  }
  return sizes;
}

}  // namespace reprise::bench
