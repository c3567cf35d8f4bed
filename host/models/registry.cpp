#include "seqvae/models/registry.hpp"

#include "seqvae/core/error.hpp"
#include "seqvae/models/dmm.hpp"
#include "seqvae/models/rvae.hpp"
#include "seqvae/models/vrnn.hpp"

namespace seqvae {

const std::vector<ModelEntry>& model_registry() {
  static const std::vector<ModelEntry> entries = {
      {"dmm", "deep Markov model: gated transition, structured posterior (Krishnan et al. 2017)",
       DmmConfig().to_json(),
       [](const io::JsonView& json, const DataShape& shape) -> std::unique_ptr<Model> {
         return std::make_unique<Dmm>(DmmConfig::from_json(json), shape);
       }},
      {"rvae", "recurrent VAE: one latent a sequence (Fabius & van Amersfoort 2014)",
       RvaeConfig().to_json(),
       [](const io::JsonView& json, const DataShape& shape) -> std::unique_ptr<Model> {
         return std::make_unique<Rvae>(RvaeConfig::from_json(json), shape);
       }},
      {"vrnn", "variational RNN: a latent a step inside a GRU (Chung et al. 2015)",
       VrnnConfig().to_json(),
       [](const io::JsonView& json, const DataShape& shape) -> std::unique_ptr<Model> {
         return std::make_unique<Vrnn>(VrnnConfig::from_json(json), shape);
       }},
  };
  return entries;
}

const ModelEntry& find_model(const std::string& name) {
  std::string names;
  for (const ModelEntry& entry : model_registry()) {
    if (entry.name == name) return entry;
    names += (names.empty() ? "" : ", ") + entry.name;
  }
  throw InvalidArgument("model = " + name + ", must be one of lgssm, " + names);
}

io::Json resolve_configuration(const ModelEntry& entry, const io::JsonView& configuration) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : entry.configuration.items()) keys.push_back(key);
  configuration.allow_only(keys);
  io::Json resolved = entry.configuration;
  for (const std::string& key : configuration.keys()) resolved[key] = configuration.at(key).value();
  return resolved;
}

}  // namespace seqvae
