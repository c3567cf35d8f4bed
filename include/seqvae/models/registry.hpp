/// \file  The deep models there are, made by name from a configuration.
#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "seqvae/io/json.hpp"
#include "seqvae/models/model.hpp"

namespace seqvae {

/// One row of the registry.
struct ModelEntry {
  std::string name;
  std::string summary;     ///< one line
  io::Json configuration;  ///< every key with its default
  std::function<std::unique_ptr<Model>(const io::JsonView& configuration, const DataShape& shape)>
      make;
};

/// All deep models, by name. (lgssm, the exact one, is models/lgssm.hpp.)
const std::vector<ModelEntry>& model_registry();
/// \throws InvalidArgument listing the names there are.
const ModelEntry& find_model(const std::string& name);
/// `configuration` over the entry's defaults; unknown keys are refused by name.
/// \throws InputError naming the key and the rule.
io::Json resolve_configuration(const ModelEntry& entry, const io::JsonView& configuration);

}  // namespace seqvae
