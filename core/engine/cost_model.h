// CostModel predicts how long computing and loading KV takes, so that a hit is
// used only when it is faster.
//
//   T_enc(n | c) = max(w, a1 n) + a2 n (c + n / 2)   n new tokens behind c cached ones
//   T_load(b)    = l0 + b / bandwidth                b payload bytes
//
// w is the time of a pass bound by reading the weights. The coefficients come
// from a start-up run; each observation then corrects a factor of each of the two
// terms, by their shares in what was predicted (normalised least mean squares).
//
// It also says how many prompt rows may run beside decoding sequences. A step
// that decodes alone takes what such steps took lately, by the power of two of
// their rows; each prompt row beside adds (a1 + a2 c) times a factor of its own.
//
// Source     first-principles model; Cake, arXiv 2410.03065, uses the same form.
// Threading  not thread-safe; the engine thread owns it.
#pragma once

#include <cstdint>
#include <map>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/model/model_runner.h"

namespace reprise {

class CostModel {
 public:
  absl::Duration PredictPrefill(int32_t new_tokens, int32_t cached_tokens) const;
  absl::Duration PredictLoad(int64_t bytes) const;

  // In units of computing one token at position 0: what each token before it adds, and what
  // loading a token of `bytes` takes.
  double DepthCost() const { return pair_seconds_ / token_seconds_; }
  double LoadCost(int64_t bytes) const {
    return load_byte_seconds_ * static_cast<double>(bytes) / token_seconds_;
  }

  // The time of a step that only decodes `rows` tokens: of the nearest size not above it
  // that was observed, or w.
  absl::Duration DecodeStep(int32_t rows) const;

  // Prompt rows behind `cached_tokens` that lengthen a decoding step by at most
  // `extra`; at least one, so that no prompt waits for ever.
  int32_t PromptRowsWithin(absl::Duration extra, int32_t cached_tokens) const;

  // What a step that just ended really took: one that only decoded `rows` tokens, or
  // one with `rows` prompt rows beside, which took `extra` longer than decoding alone.
  void ObserveDecode(int32_t rows, absl::Duration actual);
  void ObservePromptRows(int32_t rows, int32_t cached_tokens, absl::Duration extra);

  // What a prefill, or a load of `reads` values, that just ended really took.
  void ObservePrefill(int32_t new_tokens, int32_t cached_tokens, absl::Duration actual);
  void ObserveLoad(int64_t bytes, absl::Duration actual, int reads = 1);

  // Times a few short passes on the runner, whose blocks must all be free;
  // about a second at most. Errors as ModelRunner::Step.
  absl::Status Calibrate(ModelRunner& runner, const Clock& clock);

 private:
  double RowsSeconds(double n) const;              // max(w, a1 n)
  double PairsSeconds(double n, double c) const;   // a2 n (c + n / 2)
  double RowSeconds(int32_t cached_tokens) const;  // of one more row in a batch

  double pass_seconds_ = 0.01;    // w
  double token_seconds_ = 0.001;  // a1
  double pair_seconds_ = 1e-8;    // a2
  double rows_factor_ = 1.0;      // of the terms of T_enc: observed / predicted, smoothed
  double pairs_factor_ = 1.0;
  double beside_factor_ = 1.0;          // the same of prompt rows beside decoding ones
  std::map<int, double> decode_steps_;  // log2 of rows: seconds, smoothed
  double load_seconds_ = 0.0005;        // l0
  double load_byte_seconds_ = 1e-9;     // smoothed
};

}  // namespace reprise
