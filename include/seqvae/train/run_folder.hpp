/// \file  A run folder: config.json, metrics.jsonl, checkpoints last and best, scaler.
#pragma once
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "seqvae/core/machine.hpp"
#include "seqvae/data/dataset.hpp"
#include "seqvae/inference/predictor.hpp"
#include "seqvae/io/json.hpp"
#include "seqvae/models/lgssm_form.hpp"
#include "seqvae/models/model.hpp"

namespace seqvae {

/// The exact model as a run has fitted it.
struct FittedLgssm {
  std::unique_ptr<LgssmForm> form;
  std::vector<double> parameters;  ///< as form->names() has them
};

/// What is needed to use a model: its resolved configuration, the data's shape, its parameters.
///
/// config.json: {"model": NAME, "configuration": {...}, "data": {"columns", "x_width",
/// "controls_width", "missing", "emission", load options}, "train": {...}, "scaler": {...} or null,
/// "precision": "float32" | "float64", "version"}
struct RunFolder {
  std::filesystem::path path;
  io::Json config;
  std::optional<data::Scaler> scaler;

  /// \throws InputError where it is no run folder, or a key is wrong.
  static RunFolder open(const std::filesystem::path& path);
  /// Creates the folder and writes config.json. \throws InputError where a run is there already.
  static RunFolder create(const std::filesystem::path& path, io::Json config);

  std::string model() const { return config.at("model").get<std::string>(); }
  data::LoadOptions load_options() const;
  DataShape data_shape() const;
  /// A deep model as configured, with no parameters yet.
  std::unique_ptr<Model> make_model() const;
  /// The exact model with the parameters of `checkpoint` (best or last), where the run is of lgssm.
  FittedLgssm lgssm(const std::string& checkpoint) const;
  /// The model with the parameters of `checkpoint` (best or last). It works on the machine,
  /// lgssm on its threads.
  std::unique_ptr<Predictor> predictor(const std::string& checkpoint, Machine& machine) const;
};

}  // namespace seqvae
