// RotaryTable: cosines and sines of rotary position embedding for every
// position, computed once in double.
//
// Source  Su et al. 2021, arXiv 2104.09864; the scaling variants follow Hugging
//         Face transformers' modeling_rope_utils. The dynamic variant grows with
//         the sequence there; here its base is fixed for the whole context, since
//         KV of a position may not depend on what comes after it.
// Threading  immutable.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/model_config.h"

namespace reprise {

class RotaryTable {
 public:
  RotaryTable(const RopeConfig& rope, int32_t context_length);

  // Rotates the first `dimensions` of one head in place; pairs (i, i + dimensions / 2).
  void Rotate(float* head, int32_t position) const;

 private:
  size_t half_;
  std::vector<float> cosines_;  // [context_length][half]
  std::vector<float> sines_;
};

// The angle per position of each pair, [dimensions / 2].
std::vector<double> RotaryFrequencies(const RopeConfig& rope, int32_t context_length);

// Factor on cosines and sines (YaRN's attention temperature; 1 elsewhere).
double RotaryAttentionFactor(const RopeConfig& rope);

}  // namespace reprise
