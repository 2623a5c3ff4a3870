// Reads reprise-server's configuration: the embedded default, then a YAML file,
// then single settings, each over the one before.
//
// Errors  kInvalidArgument naming file, line and path: an unknown or repeated
//         key, a wrong type, a bad duration or enum name, a value out of range,
//         nesting past 16 levels, an alias, a second document, more than 1 MiB.
//         LoadConfig: kNotFound when the file cannot be opened.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "reprise/config/v1/server_config.pb.h"

namespace reprise::server {

// Merges YAML text into `config`; `name` is what errors call the source.
absl::Status MergeYaml(absl::string_view yaml, absl::string_view name,
                       config::v1::ServerConfig& config);

// Applies "cache.store.max_bytes=1000".
absl::Status MergeSetting(absl::string_view setting, config::v1::ServerConfig& config);

// Ranges of all fields.
absl::Status ValidateConfig(const config::v1::ServerConfig& config);

// The whole chain; an empty `file` is only the default.
absl::StatusOr<config::v1::ServerConfig> LoadConfig(const std::string& file,
                                                    const std::vector<std::string>& settings);

// The text of config/default.yaml, compiled in.
absl::string_view DefaultConfigYaml();

}  // namespace reprise::server
