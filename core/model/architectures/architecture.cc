#include "core/model/architectures/architecture.h"

namespace reprise {

absl::Span<const ArchitectureDefinition* const> AllArchitectures() {
  static constexpr const ArchitectureDefinition* kAll[] = {&kGpt2Definition, &kLlamaDefinition,
                                                           &kGptNeoDefinition, &kQwen2Definition,
                                                           &kGemma3Definition};
  return kAll;
}

const ArchitectureDefinition& DefinitionOf(Architecture architecture) {
  return *AllArchitectures()[static_cast<size_t>(architecture)];
}

const LayerTraits& TraitsOf(Architecture architecture) { return DefinitionOf(architecture).layers; }

const char* ArchitectureName(Architecture architecture) { return DefinitionOf(architecture).name; }

}  // namespace reprise
