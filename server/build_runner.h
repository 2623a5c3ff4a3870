// Builds the runner that a configuration asks for, on the CPU or a GPU.
//
// Errors  name the setting; kInvalidArgument also for a device this build is without.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/model/load_model.h"
#include "core/model/model_runner.h"
#include "reprise/config/v1/server_config.pb.h"

namespace reprise::server {

struct BuiltRunner {
  std::unique_ptr<ModelRunner> runner;
  std::string weight_dtype, kv_dtype;  // as replies name them
};

absl::StatusOr<BuiltRunner> BuildRunner(const config::v1::ServerConfig& config,
                                        const LoadedModel& model);

}  // namespace reprise::server
