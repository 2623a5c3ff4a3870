#include "core/model/load_model.h"

#include <sys/stat.h>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/model/load_sources.h"

namespace reprise {

absl::StatusOr<LoadedModel> LoadModel(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return absl::NotFoundError(absl::StrCat("model ", path, " does not exist"));
  }
  auto model = S_ISDIR(info.st_mode) ? LoadHuggingFaceFolder(path) : LoadGgufModel(path);
  if (!model.ok()) {
    return absl::Status(model.status().code(),
                        absl::StrCat("model ", path, ": ", model.status().message()));
  }
  RETURN_IF_ERROR(model->config.Validate());
  model->weights_digest = model->weights->ContentDigest();
  model->weights->DropPages();
  return model;
}

}  // namespace reprise
