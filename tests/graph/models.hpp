// Every model of the registry in its variants, small or as large as one asks, in every mode.
#pragma once
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "seqvae/models/registry.hpp"

namespace seqvae::test {

inline std::unique_ptr<Model> make_model(const std::string& name, const io::Json& configuration,
                                         const DataShape& shape) {
  const ModelEntry& entry = find_model(name);
  const io::Json resolved = resolve_configuration(entry, io::JsonView(configuration, "test"));
  return entry.make(io::JsonView(resolved, "test"), shape);
}

struct NamedConfiguration {
  std::string label, model;
  io::Json configuration;
  friend std::ostream& operator<<(std::ostream& out, const NamedConfiguration& c) {
    return out << c.label;
  }
};

inline std::vector<NamedConfiguration> small_models() {
  const io::Json dmm = {{"z", 3}, {"emission", 5}, {"transition", 4}, {"rnn", 6}};
  std::vector<NamedConfiguration> all = {
      {"vrnn", "vrnn", {{"hidden", 6}, {"z", 3}}},
      {"rvae", "rvae", {{"z", 3}, {"encoder", 5}, {"decoder", 6}, {"emission", 4}}}};
  for (const char* posterior : {"ST-R", "ST-L", "ST-LR", "MF-R", "MF-L", "MF-LR"}) {
    io::Json c = dmm;
    c["posterior"] = posterior;
    c["augmented"] = posterior[0] == 'S';
    c["encoder"] = posterior[1] == 'T' ? "lstm" : "gru";
    all.push_back({std::string("dmm ") + posterior, "dmm", c});
  }
  return all;
}

}  // namespace seqvae::test
