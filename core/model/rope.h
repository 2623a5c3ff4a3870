// RotaryTable: cosines and sines of rotary position embedding, computed once for
// each position, in double.
//
// Source  Su et al. 2021, arXiv 2104.09864; the scaling variants follow Hugging
//         Face transformers' modeling_rope_utils. The dynamic variant grows with
//         the sequence there; here its base is fixed for the whole context, since
//         KV of a position may not depend on what comes after it.
// Threading  Reserve excludes every other call; Rotate is safe from any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/model_config.h"

namespace reprise {

class RotaryTable {
 public:
  // Holds every position of a usual context at once. The rest waits for Reserve,
  // since the context's length is only a number in a file.
  RotaryTable(const RopeConfig& rope, int32_t context_length);

  // Makes positions [0, positions) known; at most the context's.
  void Reserve(int32_t positions);

  // Rotates the first `dimensions` of one head in place; pairs (i, i + dimensions / 2).
  // `position` has been reserved.
  void Rotate(float* head, int32_t position) const;

  // Of the reserved positions, [position][dimensions / 2].
  const std::vector<float>& cosines() const { return cosines_; }
  const std::vector<float>& sines() const { return sines_; }

 private:
  size_t half_;
  int32_t context_length_;
  double factor_;
  std::vector<double> frequencies_;
  int32_t reserved_ = 0;
  std::vector<float> cosines_;  // [reserved][half]
  std::vector<float> sines_;
};

// The angle per position of each pair, [dimensions / 2].
std::vector<double> RotaryFrequencies(const RopeConfig& rope, int32_t context_length);

// Factor on cosines and sines (YaRN's attention temperature; 1 elsewhere).
double RotaryAttentionFactor(const RopeConfig& rope);

}  // namespace reprise
