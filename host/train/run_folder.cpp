#include "seqvae/train/run_folder.hpp"

#include "host/train/checkpoint.hpp"
#include "host/train/lgssm_checkpoint.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/inference/deep_predictor.hpp"
#include "seqvae/inference/lgssm_predictor.hpp"
#include "seqvae/models/registry.hpp"

namespace seqvae {
namespace {

const std::vector<std::string>& data_keys() {
  static const std::vector<std::string> keys = {
      "columns",  "time",    "window",         "stride",  "standardize",
      "split_at", "x_width", "controls_width", "missing", "emission"};
  return keys;
}

}  // namespace

RunFolder RunFolder::create(const std::filesystem::path& path, io::Json config) {
  std::error_code error;
  if (std::filesystem::exists(path / "config.json", error)) {
    throw InputError(path.string(), "config.json",
                     "a run is here already; --resume goes on with it");
  }
  std::filesystem::create_directories(path, error);
  if (error) throw InputError(path.string(), "", "cannot be made: " + error.message());
  io::write_json(path / "config.json", config);
  return open(path);
}

RunFolder RunFolder::open(const std::filesystem::path& path) {
  RunFolder run;
  run.path = path;
  if (!std::filesystem::exists(path / "config.json")) {
    throw InputError(path.string(), "config.json", "is not there: this is no run folder");
  }
  run.config = io::read_json(path / "config.json");
  const io::JsonView json(run.config, (path / "config.json").string());
  json.allow_only({"model", "configuration", "data", "train", "scaler", "precision", "version"});
  json.at("model").string();
  json.at("data").allow_only(data_keys());
  json.at("precision").choice({"float32", "float64"});
  const auto scaler = json.get("scaler");
  if (scaler && !scaler->value().is_null()) run.scaler = data::Scaler::from_json(*scaler);
  return run;
}

data::LoadOptions RunFolder::load_options() const {
  const io::JsonView json(config, (path / "config.json").string());
  const io::JsonView data = json.at("data");
  data::LoadOptions options;
  if (const auto columns = data.get("columns")) {
    for (const io::JsonView& column : columns->elements())
      options.columns.push_back(column.string());
  }
  if (const auto time = data.get("time")) options.time = time->string();
  if (const auto window = data.get("window")) options.window = window->integer(0);
  if (const auto stride = data.get("stride")) options.stride = stride->integer(0);
  if (const auto split = data.get("split_at")) {
    for (const io::JsonView& at : split->elements()) options.split_at.push_back(at.string());
  }
  options.scaler = scaler;
  return options;
}

DataShape RunFolder::data_shape() const {
  const io::JsonView json(config, (path / "config.json").string());
  const io::JsonView data = json.at("data");
  DataShape shape;
  shape.x_width = data.at("x_width").integer(1);
  shape.controls_width = data.at("controls_width").integer(0);
  shape.missing = data.at("missing").boolean();
  shape.emission = parse_emission(
      data.at("emission").choice({"bernoulli", "gaussian", "categorical", "poisson"}));
  return shape;
}

std::unique_ptr<Model> RunFolder::make_model() const {
  const io::JsonView json(config, (path / "config.json").string());
  const ModelEntry& entry = find_model(model());
  const io::Json resolved = resolve_configuration(entry, json.at("configuration"));
  return entry.make(io::JsonView(resolved, (path / "config.json").string(), "configuration"),
                    data_shape());
}

FittedLgssm RunFolder::lgssm(const std::string& checkpoint) const {
  const io::JsonView json(config, (path / "config.json").string());
  const DataShape shape = data_shape();
  FittedLgssm fitted;
  fitted.form = make_lgssm_form(json.at("configuration"), shape.x_width, shape.controls_width);
  fitted.parameters =
      read_lgssm_checkpoint(path / (checkpoint + ".safetensors"), *fitted.form).parameters;
  return fitted;
}

std::unique_ptr<Predictor> RunFolder::predictor(const std::string& checkpoint,
                                                Machine& machine) const {
  if (model() == "lgssm") {
    const FittedLgssm fitted = lgssm(checkpoint);
    return make_lgssm_predictor(fitted.form->build(fitted.parameters), machine);
  }
  const std::filesystem::path file = path / (checkpoint + ".safetensors");
  std::unique_ptr<Model> made = make_model();
  if (config.at("precision") == "float64") {
    std::vector<double> values = read_checkpoint<double>(file, made->parameters()).parameters;
    return make_deep_predictor(std::move(made), values, machine);
  }
  std::vector<float> values = read_checkpoint<float>(file, made->parameters()).parameters;
  return make_deep_predictor(std::move(made), values, machine);
}

}  // namespace seqvae
