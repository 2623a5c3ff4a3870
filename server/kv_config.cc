#include "server/kv_config.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace reprise::server {
namespace {

absl::Status CheckCodec(const config::v1::ServerConfig& c) {
  const bool may_round = c.model().exactness() == config::v1::EXACTNESS_BEST_EFFORT;
  const bool fits = may_round && c.model().kv_dtype() == config::v1::DTYPE_BF16;
  if (c.cache().store().codec() != config::v1::STORE_CODEC_INT8) return absl::OkStatus();
  if (fits && c.cache().shadow_verify_percent() > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cache.shadow_verify_percent: ", c.cache().shadow_verify_percent(),
                     ", expected 0 with cache.store.codec: INT8, whose KV is never what "
                     "computing gives"));
  }
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("cache.store.codec: INT8, which ",
                   may_round ? "needs model.kv_dtype: BF16"
                             : "changes replies: it needs model.exactness: BEST_EFFORT"));
}

}  // namespace

absl::Status CheckKvFormat(const config::v1::ServerConfig& c) {
  const config::v1::Dtype kv_dtype = c.model().kv_dtype();
  if (kv_dtype == config::v1::DTYPE_INT8 || kv_dtype == config::v1::DTYPE_AS_STORED) {
    return absl::InvalidArgumentError(
        absl::StrCat("model.kv_dtype: ", config::v1::Dtype_Name(kv_dtype).substr(sizeof("DTYPE")),
                     ", expected FP32, BF16 or FP16"));
  }
  return CheckCodec(c);
}

}  // namespace reprise::server
