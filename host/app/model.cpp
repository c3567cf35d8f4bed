#include "host/app/model.hpp"

#include <fmt/format.h>

#include <numeric>

#include "host/app/errors.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/inference/lgssm_predictor.hpp"
#include "seqvae/train/run_folder.hpp"

namespace seqvae::app {
namespace {

std::int64_t count(const std::vector<double>& values) {
  return static_cast<std::int64_t>(values.size());
}

}  // namespace

void add_model_arguments(Command command, ModelArguments& model) {
  const Flag run = command.argument("RUN", model.run, "the folder of a run");
  const Flag name = command.text("--model", model.model, "lgssm",
                                 "in place of a run: the exact model with its matrices given");
  const Flag config = command.text("--config", model.config, "FILE.json",
                                   "its matrices: A C Q R, m0 P0 or \"diffuse\": true, B D");
  name.excludes(run).needs(config);
  config.needs(name);
}

void add_data_arguments(Command command, DataArguments& data) {
  command.text("--data", data.file, "FILE", "the data: .npz, .npy or .csv").required();
  command.text("--split", data.split, "NAME",
               "train, valid, test or all (test where there is one, else all)");
  add_load_arguments(command, data.load);
}

void OpenModel::unscale(std::vector<double>& rows) const {
  if (scaler) scaler->unscale(rows);
}

void OpenModel::unscale_deviations(std::vector<double>& rows) const {
  if (!scaler) return;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i] *= scaler->deviation[i % scaler->deviation.size()];
  }
}

std::vector<std::string> OpenModel::columns() const {
  std::vector<std::string> columns = names;
  for (std::int64_t d = static_cast<std::int64_t>(names.size()); d < D; ++d) {
    columns.push_back(std::to_string(d));
  }
  return columns;
}

io::Array OpenModel::array(std::vector<std::int64_t> shape,
                           const std::vector<double>& values) const {
  if (!float32) return io::Array::of(std::move(shape), values);
  return io::Array::of(std::move(shape), std::vector<float>(values.begin(), values.end()));
}

namespace {

OpenModel open_given(const ModelArguments& model, const RunArguments& arguments) {
  if (model.model != "lgssm") {
    throw InputError("--model", model.model, "must be lgssm where no run is given");
  }
  const io::Json config = io::read_json(model.config);
  const LgssmMatrices lgssm = LgssmMatrices::from_json(io::JsonView(config, model.config));
  OpenModel open;
  open.name = "lgssm";
  open.D = lgssm.m;
  open.U = lgssm.U;
  open.float32 = arguments.precision == "float32";
  open.machine = std::make_unique<Machine>(device_of(arguments, open.name, open.float32),
                                           static_cast<int>(arguments.threads));
  open.predictor = make_lgssm_predictor(lgssm, *open.machine);
  return open;
}

}  // namespace

OpenModel open_model(const ModelArguments& model, const RunArguments& arguments) {
  check(arguments);
  if (!model.model.empty()) return open_given(model, arguments);
  if (model.run.empty()) throw InputError("RUN", "", "is required, or --model lgssm --config FILE");
  RunFolder run = RunFolder::open(model.run);
  if (!arguments.precision.empty()) run.config["precision"] = arguments.precision;
  const DataShape shape = run.data_shape();
  OpenModel open;
  open.name = run.model();
  open.load = run.load_options();
  open.scaler = run.scaler;
  open.D = shape.x_width;
  open.U = shape.controls_width;
  open.names = open.load.columns;
  open.reads_gaps = shape.missing || open.name == "lgssm";
  open.bernoulli = shape.emission == Emission::Kind::bernoulli;
  open.float32 = run.config.at("precision") == "float32";
  open.machine = std::make_unique<Machine>(device_of(arguments, open.name, open.float32),
                                           static_cast<int>(arguments.threads));
  open.predictor = run.predictor("best", *open.machine);
  return open;
}

OpenData open_data(const OpenModel& model, const DataArguments& arguments,
                   const CommonArguments& common) {
  if (arguments.load.standardize && !model.scaler) {
    throw InputError("--standardize", "", "the run was trained on data that were not standardized");
  }
  data::LoadOptions options = over(model.load, arguments.load);
  options.standardize = false;  // the scaler is the run's own
  OpenData open{data::load(arguments.file, options), arguments.split};
  if (open.part.empty()) open.part = open.dataset.default_part_name();
  const data::SequenceSet& set = open.set();
  if (set.D != model.D) {
    throw InputError(open.dataset.file, "values",
                     fmt::format("have {} columns, the model takes {}", set.D, model.D));
  }
  if (set.U != model.U) {
    throw InputError(open.dataset.file, "controls",
                     fmt::format("have {} columns, the model takes {}", set.U, model.U));
  }
  if (!common.quiet && !model.reads_gaps && set.has_missing()) {
    note(
        fmt::format("{}: has gaps, and the model was trained on complete data: it reads them as "
                    "zeros (train.hide teaches it to read gaps)",
                    open.dataset.file));
  }
  return open;
}

std::vector<std::int32_t> counted_lengths(const data::SequenceSet& set) {
  std::vector<std::int32_t> lengths(set.lengths);
  for (std::size_t i = 0; i < lengths.size(); ++i) lengths[i] -= set.begin[i];
  return lengths;
}

std::vector<double> counted_rows(const data::SequenceSet& set, const std::vector<double>& values,
                                 std::int64_t width) {
  if (set.steps() == set.rows()) return values;
  std::vector<double> counted;
  const std::vector<std::int64_t> starts = set.starts();
  for (std::int64_t block = 0; block < count(values); block += set.rows() * width) {
    for (std::size_t i = 0; i < set.lengths.size(); ++i) {
      const std::int64_t first = block + (starts[i] + set.begin[i]) * width;
      const std::int64_t last = block + starts[i + 1] * width;
      counted.insert(counted.end(), values.begin() + first, values.begin() + last);
    }
  }
  return counted;
}

}  // namespace seqvae::app
