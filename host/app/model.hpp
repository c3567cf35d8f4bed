// The model that a command works with, and the data as it takes them.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "host/app/arguments.hpp"
#include "seqvae/core/machine.hpp"
#include "seqvae/inference/predictor.hpp"
#include "seqvae/io/array.hpp"

namespace seqvae::app {

/// Which model: a run folder, or lgssm with its matrices given.
struct ModelArguments {
  std::string run, model, config;
};
void add_model_arguments(Command command, ModelArguments& model);

/// Which data: a file and the part of it.
struct DataArguments {
  std::string file, split;
  LoadArguments load;
};
void add_data_arguments(Command command, DataArguments& data);

/// A model with its parameters, ready to work.
struct OpenModel {
  std::string name;
  data::LoadOptions load;              ///< as the run was trained
  std::optional<data::Scaler> scaler;  ///< what the model sees is scaled
  std::int64_t D = 0, U = 0;           ///< columns of the data and of the controls
  bool bernoulli = false;
  bool reads_gaps = true;          ///< has weights of its own for what is missing, or is exact
  std::vector<std::string> names;  ///< of the columns, where they have some
  bool float32 = true;             ///< what is written
  std::unique_ptr<Machine> machine;
  std::unique_ptr<Predictor> predictor;

  /// From the model's units to the file's: rows of D values, or deviations of such.
  void unscale(std::vector<double>& rows) const;
  void unscale_deviations(std::vector<double>& rows) const;
  std::vector<std::string> columns() const;            ///< names, else "0", "1", ...
  bool is_roll() const { return bernoulli && D > 8; }  ///< a picture is one of many binary rows
  io::Array array(std::vector<std::int64_t> shape, const std::vector<double>& values) const;
};

/// \throws InputError, InvalidArgument.
OpenModel open_model(const ModelArguments& model, const RunArguments& run);

/// The data of a model, and the part that was asked for.
struct OpenData {
  data::Dataset dataset;
  std::string part;
  const data::SequenceSet& set() const { return dataset.part(part); }
};

/// \throws InputError where the data do not fit the model.
/// Says on stderr where the data has gaps that the model was not trained with.
OpenData open_data(const OpenModel& model, const DataArguments& data,
                   const CommonArguments& common);

/// The rows of a set that count, of S blocks of R rows of `width` values: a part's past is left
/// out.
std::vector<double> counted_rows(const data::SequenceSet& set, const std::vector<double>& values,
                                 std::int64_t width);
/// Lengths of the sequences, their past left out.
std::vector<std::int32_t> counted_lengths(const data::SequenceSet& set);

}  // namespace seqvae::app
