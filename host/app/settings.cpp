#include "host/app/settings.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "seqvae/core/error.hpp"
#include "seqvae/models/lgssm_form.hpp"
#include "seqvae/models/registry.hpp"
#include "seqvae/train/trainer.hpp"

namespace seqvae::app {
namespace {

constexpr const char* kSections[] = {"configuration", "data", "train"};

std::vector<std::string> keys_of(const io::Json& settings) {
  std::vector<std::string> keys;
  for (const auto& [section, value] : settings.items()) {
    if (value.is_object()) {
      for (const auto& member : value.items()) keys.push_back(section + "." + member.key());
    } else {
      keys.push_back(section);
    }
  }
  return keys;
}

std::string after_dot(const std::string& key) {
  return key.substr(key.find('.') == std::string::npos ? 0 : key.find('.') + 1);
}

/// The key that was meant, be it written without its section.
std::optional<std::string> meant(const std::string& key, const std::vector<std::string>& keys) {
  if (const auto found = io::nearest(key, keys)) return found;
  std::vector<std::string> members(keys.size());
  std::transform(keys.begin(), keys.end(), members.begin(), after_dot);
  const auto found = io::nearest(after_dot(key), members);
  if (!found) return std::nullopt;
  return keys[static_cast<std::size_t>(std::find(members.begin(), members.end(), *found) -
                                       members.begin())];
}

io::Json& place_of(io::Json& settings, const Setting& setting) {
  const std::vector<std::string> keys = keys_of(settings);
  if (std::find(keys.begin(), keys.end(), setting.key) == keys.end()) {
    const auto near = meant(setting.key, keys);
    throw InputError(setting.source, setting.key,
                     near ? fmt::format("is no key here; did you mean '{}'?", *near)
                          : std::string("is no key here"));
  }
  const std::size_t dot = setting.key.find('.');
  if (dot == std::string::npos) return settings[setting.key];
  return settings[setting.key.substr(0, dot)][setting.key.substr(dot + 1)];
}

/// The form that was asked for, else a local linear trend. \throws InputError.
io::Json lgssm_configuration(const io::Json& settings, const std::string& source) {
  io::Json chosen = io::Json::object();
  for (const auto& [key, value] : settings.at("configuration").items()) {
    if (!value.is_null()) chosen[key] = value;
  }
  if (chosen.empty())
    chosen["structural"] = {{"level", true}, {"trend", true}, {"irregular", true}};
  io::Json of_any_data = chosen;
  of_any_data.erase("fixed");  // matrices, which must fit the data
  make_lgssm_form(io::JsonView(of_any_data, source, "configuration"), 1, 0);
  return chosen;
}

/// Fails in the name of `source`, whose settings came last.
void check(io::Json& settings, const std::string& source) {
  const auto view = [&](const char* section) {
    return io::JsonView(settings.at(section), source, section);
  };
  load_options_of(view("data"));
  io::JsonView(settings, source).at("precision").choice({"float32", "float64"});
  const std::string model = settings.at("model").get<std::string>();
  if (model == "lgssm") {
    settings["train"] = LgssmTrainConfig::from_json(view("train")).to_json();
    lgssm_configuration(settings, source);
    return;
  }
  settings["train"] = TrainConfig::from_json(view("train")).to_json();
  find_model(model).make(view("configuration"), DataShape());
}

}  // namespace

Setting parse_setting(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw InputError("--set", text, "must be key=value");
  }
  const std::string value = text.substr(equals + 1);
  Setting setting{"--set", text.substr(0, equals), value};
  if (io::Json::accept(value)) setting.value = io::parse_json(value, "--set: " + setting.key);
  return setting;
}

std::vector<Setting> read_settings(const io::Path& file) {
  const io::Json json = io::read_json(file);
  const io::JsonView view(json, file.string());
  view.allow_only({"model", "configuration", "data", "train", "precision"});
  std::vector<Setting> settings;
  for (const char* key : {"model", "precision"}) {
    if (const auto value = view.get(key)) settings.push_back({file.string(), key, value->string()});
  }
  for (const std::string section : kSections) {
    const auto members = view.get(section);
    if (!members) continue;
    for (const std::string& key : members->keys()) {
      settings.push_back({file.string(), section + "." + key, members->at(key).value()});
    }
  }
  return settings;
}

io::Json default_settings(const std::string& model) {
  const bool exact = model == "lgssm";
  return {{"model", model},
          {"configuration", exact ? io::Json{{"structural", nullptr},
                                             {"states", nullptr},
                                             {"fixed", nullptr},
                                             {"A", nullptr},
                                             {"Q", nullptr},
                                             {"R", nullptr}}
                                  : find_model(model).configuration},
          {"data",
           {{"columns", io::Json::array()},
            {"time", ""},
            {"window", 0},
            {"stride", 0},
            {"standardize", false},
            {"split_at", io::Json::array()},
            {"emission", "auto"}}},
          {"train", exact ? LgssmTrainConfig().to_json() : TrainConfig().to_json()},
          {"precision", exact ? "float64" : "float32"}};
}

void apply_settings(io::Json& settings, const std::vector<Setting>& given) {
  for (std::size_t i = 0; i < given.size(); ++i) {
    place_of(settings, given[i]) = given[i].value;
    const bool last_of_source = i + 1 == given.size() || given[i + 1].source != given[i].source;
    if (last_of_source) check(settings, given[i].source);
  }
  if (settings.at("model") == "lgssm") {
    settings["configuration"] = lgssm_configuration(settings, "configuration");
  }
}

void require_same(const io::Json& run, const std::string& run_name,
                  const std::vector<Setting>& given) {
  io::Json settings = run;
  for (const Setting& setting : given) {
    const io::Json& old = place_of(settings, setting);
    if (setting.key == "data.emission" && setting.value == "auto") continue;
    if (old != setting.value) {
      throw InputError(setting.source, setting.key,
                       fmt::format("is {}, the run to resume has {} ({})", setting.value.dump(),
                                   old.dump(), run_name));
    }
  }
}

data::LoadOptions load_options_of(const io::JsonView& data) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  data::LoadOptions options;
  for (const io::JsonView& column : data.at("columns").elements()) {
    options.columns.push_back(column.string());
  }
  options.time = data.at("time").string();
  options.window = data.at("window").integer(0, most);
  options.stride = data.at("stride").integer(0, most);
  options.standardize = data.at("standardize").boolean();
  for (const io::JsonView& bound : data.at("split_at").elements()) {
    options.split_at.push_back(bound.value().is_number() ? bound.value().dump() : bound.string());
  }
  data.at("emission").choice({"auto", "bernoulli", "gaussian", "categorical", "poisson"});
  return options;
}

}  // namespace seqvae::app
