#include "seqvae/data/dataset.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "host/data/read.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/io/csv.hpp"
#include "seqvae/io/npy.hpp"

namespace seqvae::data {
namespace {

enum class Format { npz, npy, csv };

Format format_of(const io::Path& path) {
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  });
  if (ending == ".npz") return Format::npz;
  if (ending == ".npy") return Format::npy;
  if (ending == ".csv") return Format::csv;
  throw InputError(path.string(), "name", "must end in .npz, .npy or .csv");
}

Dataset read_csv_dataset(const io::Path& path, const LoadOptions& options) {
  io::CsvTable table = io::read_csv(path, {options.columns, options.time});
  Dataset dataset;
  dataset.file = path.string();
  dataset.columns = std::move(table.columns);
  dataset.time_labels = std::move(table.times);
  if (table.rows > std::numeric_limits<std::int32_t>::max()) {
    throw InputError(dataset.file, "", fmt::format("has {} rows, more than 2^31 - 1", table.rows));
  }
  SequenceSet& set = dataset.parts["all"];
  set.D = static_cast<std::int64_t>(dataset.columns.size());
  set.lengths = {static_cast<std::int32_t>(table.rows)};
  set.begin = {0};
  set.ids = {0};
  set.values = std::move(table.values);
  return dataset;
}

Dataset read_npy_dataset(const io::Path& path) {
  Dataset dataset;
  dataset.file = path.string();
  SequenceSet& set = dataset.parts["all"] = set_from_array(io::read_npy(path), dataset.file);
  for (std::int64_t d = 0; d < set.D; ++d) dataset.columns.push_back(std::to_string(d));
  return dataset;
}

void check(const LoadOptions& options) {
  const char* where = "load";
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  require(options.window >= 0 && options.window <= most, where, "window", options.window,
          "1 .. 2^31 - 1, or 0 for none");
  require(options.stride >= 0 && options.stride <= most, where, "stride", options.stride,
          "1 .. 2^31 - 1, or 0 for the window");
  require(options.stride == 0 || options.window > 0, where, "stride", options.stride,
          "given with a window");
  require(options.split_at.size() <= 3, where, "split_at", options.split_at.size(),
          "at most three bounds");
}

void scale(Dataset& dataset, const LoadOptions& options) {
  if (!options.standardize && !options.scaler) return;
  dataset.scaler = options.scaler
                       ? *options.scaler
                       : Scaler::fit(dataset.training_part(), dataset.columns, dataset.file);
  if (dataset.scaler->mean.size() != dataset.columns.size()) {
    throw InputError(dataset.file, "columns",
                     fmt::format("are {}, the scaler has {}", dataset.columns.size(),
                                 dataset.scaler->mean.size()));
  }
  for (auto& [name, set] : dataset.parts) dataset.scaler->scale(set.values);
}

std::string names_of(const std::map<std::string, SequenceSet>& parts) {
  std::string names;
  for (const char* name : {"all", "train", "valid", "test"}) {
    if (parts.contains(name)) names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return names;
}

std::vector<double> in_file_units(const Dataset& dataset, const SequenceSet& set) {
  std::vector<double> values = set.values;
  if (dataset.scaler) dataset.scaler->unscale(values);
  return values;
}

/// The part's rows that count, without the past that it shares with another part.
SequenceSet without_past(const SequenceSet& set) {
  SequenceSet out;
  out.D = set.D;
  out.U = set.U;
  std::int64_t start = 0;
  for (std::size_t i = 0; i < set.lengths.size(); ++i) {
    const std::int64_t first = start + set.begin[i], last = start + set.lengths[i];
    out.append(set, first, last, first, set.ids[i]);
    start = last;
  }
  return out;
}

/// uint8 where all values are 0 or 1, else float64.
io::Array array_of(std::vector<std::int64_t> shape, const std::vector<double>& values) {
  if (std::all_of(values.begin(), values.end(), [](double v) { return v == 0 || v == 1; })) {
    return io::Array::of(std::move(shape), std::vector<std::uint8_t>(values.begin(), values.end()));
  }
  return io::Array::of(std::move(shape), values);
}

const SequenceSet& only_part(const Dataset& dataset, const io::Path& out) {
  if (dataset.parts.size() != 1) {
    throw InputError(
        out.string(), "",
        fmt::format("holds one part, {} has {}", dataset.file, names_of(dataset.parts)));
  }
  return dataset.parts.begin()->second;
}

void save_npy(const io::Path& path, const Dataset& dataset) {
  const SequenceSet& set = only_part(dataset, path);
  const std::int64_t T = set.lengths.front();
  if (std::any_of(set.lengths.begin(), set.lengths.end(), [&](auto t) { return t != T; })) {
    throw InputError(path.string(), "",
                     fmt::format("holds sequences of one length, {} has several", dataset.file));
  }
  std::vector<std::int64_t> shape{T, set.D};
  if (set.count() > 1) shape.insert(shape.begin(), set.count());
  io::write_npy(path, array_of(shape, in_file_units(dataset, set)));
}

void save_csv(const io::Path& path, const Dataset& dataset, const std::string& time_column) {
  const SequenceSet& set = only_part(dataset, path);
  if (set.count() != 1) {
    throw InputError(
        path.string(), "",
        fmt::format("holds one series, {} has {} sequences", dataset.file, set.count()));
  }
  io::CsvTable table;
  table.columns = dataset.columns;
  table.values = in_file_units(dataset, set);
  table.rows = set.rows();
  if (!dataset.time_labels.empty()) {
    table.time_column = time_column.empty() ? "time" : time_column;
    table.times = dataset.time_labels;
  }
  io::write_csv(path, table);
}

}  // namespace

const SequenceSet& Dataset::part(std::string_view name) const {
  const auto found = parts.find(std::string(name));
  if (found == parts.end()) {
    throw InputError(file, fmt::format("part '{}'", name),
                     fmt::format("is not there, the parts are {}", names_of(parts)));
  }
  return found->second;
}

std::string Dataset::default_part_name() const {
  for (const char* name : {"test", "all"}) {
    if (has(name)) return name;
  }
  return parts.begin()->first;
}

const SequenceSet& Dataset::training_part() const { return part(has("all") ? "all" : "train"); }

void Dataset::require_observed_columns(std::string_view name) const {
  const SequenceSet& set = part(name);
  for (std::int64_t d = 0; d < set.D; ++d) {
    bool observed = false;
    for (std::size_t i = static_cast<std::size_t>(d); i < set.values.size() && !observed;
         i += static_cast<std::size_t>(set.D)) {
      observed = !std::isnan(set.values[i]);
    }
    if (!observed) {
      throw InputError(file, fmt::format("column '{}'", columns[static_cast<std::size_t>(d)]),
                       fmt::format("has no observed value in {}", name));
    }
  }
}

Dataset load(const io::Path& path, const LoadOptions& options) {
  check(options);
  const Format format = format_of(path);
  if (format != Format::csv && (!options.columns.empty() || !options.time.empty())) {
    throw InputError(path.string(), "name", "must end in .csv where columns or a time are named");
  }
  Dataset dataset = format == Format::csv   ? read_csv_dataset(path, options)
                    : format == Format::npz ? dataset_from_arrays(io::read_npz(path), path.string())
                                            : read_npy_dataset(path);
  if (!options.split_at.empty()) split_series(dataset, options.split_at);
  if (options.window > 0) {
    const std::int64_t stride = options.stride > 0 ? options.stride : options.window;
    for (auto& [name, set] : dataset.parts) {
      const bool past =
          std::any_of(set.begin.begin(), set.begin.end(), [](auto b) { return b > 0; });
      if (!past) set = windows_of(set, options.window, stride);
    }
  }
  scale(dataset, options);
  return dataset;
}

void save_npz(const io::Path& path, const Dataset& dataset) {
  io::NamedArrays arrays;
  for (const auto& [name, part] : dataset.parts) {
    const std::string prefix = name == "all" ? "" : name + "_";
    const SequenceSet set = without_past(part);
    const std::int64_t R = set.rows();
    arrays[prefix + "values"] = array_of({R, set.D}, in_file_units(dataset, set));
    arrays[prefix + "lengths"] = io::Array::of({set.count()}, set.lengths);
    if (set.U > 0) arrays[prefix + "controls"] = io::Array::of({R, set.U}, set.controls);
    if (!set.times.empty()) arrays[prefix + "times"] = io::Array::of({R}, set.times);
  }
  io::write_npz(path, arrays);
}

void convert(const io::Path& in, const io::Path& out, const LoadOptions& options) {
  const Format format = format_of(out);
  const Dataset dataset = load(in, options);
  if (format == Format::npz) save_npz(out, dataset);
  if (format == Format::npy) save_npy(out, dataset);
  if (format == Format::csv) save_csv(out, dataset, options.time);
}

SequenceSet load_controls(const io::Path& path, std::int64_t U) {
  const std::string file = path.string();
  SequenceSet set;
  if (format_of(path) == Format::npz) {
    io::NamedArrays arrays = io::read_npz(path);
    if (const auto controls = arrays.extract("controls")) {
      arrays.erase("values");
      arrays["values"] = std::move(controls.mapped());
    }
    set = set_from_arrays(arrays, "", file);
  } else {
    set = load(path).part("all");
  }
  if (set.D != U) {
    throw InputError(file, "controls",
                     fmt::format("have {} columns, the model takes {}", set.D, U));
  }
  if (set.has_missing()) throw InputError(file, "controls", "a value is missing");
  return set;
}

}  // namespace seqvae::data
