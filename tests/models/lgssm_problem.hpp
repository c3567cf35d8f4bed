// Series and models that the tests of the linear-Gaussian model share.
#pragma once
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "seqvae/models/lgssm_fit.hpp"
#include "tests/support/files.hpp"

namespace seqvae::test {

/// The second column of a CSV below tests/reference as one sequence; an empty field is missing.
inline data::SequenceSet read_series(const std::string& name) {
  std::ifstream file(reference(name));
  data::SequenceSet set;
  set.D = 1;
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    const std::string field = line.substr(line.find(',') + 1);
    set.values.push_back(field.empty() ? std::nan("") : std::strtod(field.c_str(), nullptr));
  }
  set.lengths = {static_cast<std::int32_t>(set.values.size())};
  set.begin = {0};
  set.ids = {0};
  return set;
}

inline io::Json read_reference(const std::string& name) { return io::read_json(reference(name)); }

inline LgssmMatrices matrices_of(const std::string& text) {
  const io::Json json = io::parse_json(text, "config.json");
  return LgssmMatrices::from_json(io::JsonView(json, "config.json"));
}

inline std::unique_ptr<LgssmForm> form_of(const std::string& text, std::int64_t m = 1,
                                          std::int64_t U = 0) {
  const io::Json json = io::parse_json(text, "config.json");
  return make_lgssm_form(io::JsonView(json, "config.json"), m, U);
}

inline double sum(const std::vector<double>& values) {
  double sum = 0;
  for (double x : values) sum += x;
  return sum;
}

}  // namespace seqvae::test
