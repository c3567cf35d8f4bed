// Settings of a run: a configuration file, --set and flags over a model's defaults.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "seqvae/data/dataset.hpp"
#include "seqvae/io/json.hpp"

namespace seqvae::app {

/// One setting that a user gave: "train.learning_rate" from "--set".
struct Setting {
  std::string source, key;
  io::Json value;
};

/// "key=value"; the value as JSON where it is JSON, else as a string.
/// \throws InputError "--set: text: must be key=value".
Setting parse_setting(const std::string& text);

/// The members of a configuration file's sections as settings, in their order.
/// \throws InputError on a section that there is not.
std::vector<Setting> read_settings(const io::Path& file);

/// {"model", "configuration", "data", "train", "precision"} of a model with nothing given.
/// \throws InvalidArgument where there is no such model.
io::Json default_settings(const std::string& model);

/// Puts the settings over `settings`; all of one source, then their check.
/// \throws InputError "source: key: rule", on an unknown key with the nearest that there is.
void apply_settings(io::Json& settings, const std::vector<Setting>& given);

/// For --resume: what was given must be what the run was made with.
/// \throws InputError naming the key and both values.
void require_same(const io::Json& run, const std::string& run_name,
                  const std::vector<Setting>& given);

/// "data" of the settings as options of loading.
data::LoadOptions load_options_of(const io::JsonView& data);

}  // namespace seqvae::app
