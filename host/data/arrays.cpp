#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "host/data/read.hpp"
#include "seqvae/core/error.hpp"

namespace seqvae::data {
namespace {

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kMostRows = std::numeric_limits<std::int32_t>::max();
constexpr std::string_view kPieces[] = {"values", "lengths", "mask", "controls", "times", "reset"};

/// The arrays of one part, checked against each other.
class Part {
 public:
  Part(const io::NamedArrays& arrays, std::string prefix, const std::string& file)
      : arrays_(arrays), prefix_(std::move(prefix)), file_(file) {}

  SequenceSet read() {
    const io::Array* values = find("values");
    if (values == nullptr) fail("values", "is missing");
    if (values->shape.size() != 1 && values->shape.size() != 2) {
      fail("values",
           fmt::format("has shape {}, must be [sum of lengths, D]", text_of(values->shape)));
    }
    const std::int64_t rows = values->shape[0];
    set_.D = values->shape.size() == 2 ? values->shape[1] : 1;
    if (set_.D < 1) fail("values", "has no columns");
    if (rows > kMostRows) fail("values", fmt::format("has {} rows, more than 2^31 - 1", rows));
    set_.values = values->to_double();
    read_lengths(rows);
    read_mask(rows);
    refuse_infinite("values", set_.values, set_.D);
    read_controls(rows);
    read_times(rows);
    split_at_resets(rows);
    return std::move(set_);
  }

 private:
  const io::Array* find(std::string_view piece) const {
    const auto found = arrays_.find(prefix_ + std::string(piece));
    return found == arrays_.end() ? nullptr : &found->second;
  }
  [[noreturn]] void fail(std::string_view piece, std::string_view rule) const {
    throw InputError(file_, prefix_ + std::string(piece), rule);
  }
  [[noreturn]] void fail_at(std::string_view piece, std::int64_t row, std::string_view rule) const {
    throw InputError(file_, fmt::format("{}{}, row {}", prefix_, piece, row), rule);
  }
  void refuse_infinite(std::string_view piece, const std::vector<double>& v, std::int64_t width) {
    for (std::size_t i = 0; i < v.size(); ++i) {
      if (std::isinf(v[i])) {
        const auto at = static_cast<std::int64_t>(i);
        fail_at(piece, at / width,
                fmt::format("column {} is {}, must be finite", at % width, v[i]));
      }
    }
  }
  void require_shape(std::string_view piece, const io::Array& array, std::int64_t rows) const {
    if (array.shape != std::vector<std::int64_t>{rows}) {
      fail(piece, fmt::format("has shape {}, must be [{}] as {}values has {} rows",
                              text_of(array.shape), rows, prefix_, rows));
    }
  }

  void read_lengths(std::int64_t rows) {
    const io::Array* lengths = find("lengths");
    if (lengths == nullptr) fail("lengths", "is missing");
    if (lengths->shape.size() != 1) {
      fail("lengths", fmt::format("has shape {}, must be [N]", text_of(lengths->shape)));
    }
    if (is_floating(lengths->dtype) || lengths->dtype == DType::boolean) {
      fail("lengths", fmt::format("is {}, must be integers", name_of(lengths->dtype)));
    }
    if (lengths->shape[0] == 0) fail("lengths", "is empty, must hold a sequence");
    std::int64_t sum = 0;
    const std::vector<double> numbers = lengths->to_double();
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const auto place = fmt::format("{}lengths, sequence {}", prefix_, i);
      if (!(numbers[i] >= 1)) {
        throw InputError(file_, place, fmt::format("is {}, must be >= 1", numbers[i]));
      }
      if (numbers[i] > static_cast<double>(rows - sum)) {
        throw InputError(file_, place,
                         fmt::format("ends at row {:.0f}, {}values has {}",
                                     static_cast<double>(sum) + numbers[i], prefix_, rows));
      }
      set_.lengths.push_back(static_cast<std::int32_t>(numbers[i]));
      sum += set_.lengths.back();
    }
    if (sum != rows) {
      fail("lengths", fmt::format("sums to {}, {}values has {} rows", sum, prefix_, rows));
    }
  }

  void read_mask(std::int64_t rows) {
    const io::Array* mask = find("mask");
    if (mask == nullptr) return;
    const bool by_row = mask->shape == std::vector<std::int64_t>{rows};
    if (!by_row && mask->shape != std::vector<std::int64_t>{rows, set_.D}) {
      fail("mask", fmt::format("has shape {}, must be [{}, {}] or [{}]", text_of(mask->shape), rows,
                               set_.D, rows));
    }
    const std::vector<double> marks = mask->to_double();
    for (std::size_t i = 0; i < set_.values.size(); ++i) {
      const double mark = marks[by_row ? i / static_cast<std::size_t>(set_.D) : i];
      if (mark == 0) {
        set_.values[i] = kMissing;
      } else if (mark != 1) {
        fail_at("mask", static_cast<std::int64_t>(i) / set_.D,
                fmt::format("is {}, must be 0 or 1", mark));
      }
    }
  }

  void read_controls(std::int64_t rows) {
    const io::Array* controls = find("controls");
    if (controls == nullptr) return;
    const bool flat = controls->shape.size() == 1;
    if ((!flat && controls->shape.size() != 2) || controls->shape[0] != rows) {
      fail("controls", fmt::format("has shape {}, must be [{}, U] as {}values has {} rows",
                                   text_of(controls->shape), rows, prefix_, rows));
    }
    set_.U = flat ? 1 : controls->shape[1];
    set_.controls = controls->to_double();
    for (std::size_t i = 0; i < set_.controls.size(); ++i) {
      if (!std::isfinite(set_.controls[i])) {
        const auto at = static_cast<std::int64_t>(i);
        fail_at("controls", at / set_.U,
                fmt::format("column {} is {}, must be finite", at % set_.U, set_.controls[i]));
      }
    }
  }

  void read_times(std::int64_t rows) {
    const io::Array* times = find("times");
    if (times == nullptr) return;
    require_shape("times", *times, rows);
    set_.times = times->to_double();
    for (std::size_t row = 0; row < set_.times.size(); ++row) {
      if (!std::isfinite(set_.times[row])) {
        fail_at("times", static_cast<std::int64_t>(row),
                fmt::format("is {}, must be finite", set_.times[row]));
      }
    }
  }

  void split_at_resets(std::int64_t rows) {
    std::vector<double> marks(static_cast<std::size_t>(rows), 0.0);
    if (const io::Array* reset = find("reset")) {
      require_shape("reset", *reset, rows);
      marks = reset->to_double();
    }
    std::vector<std::int32_t> episodes;
    std::size_t row = 0;
    for (const std::int32_t length : set_.lengths) {
      for (std::int32_t t = 0; t < length; ++t, ++row) {
        if (marks[row] != 0 && marks[row] != 1) {
          fail_at("reset", static_cast<std::int64_t>(row),
                  fmt::format("is {}, must be 0 or 1", marks[row]));
        }
        if (t == 0 || marks[row] == 1) episodes.push_back(0);
        ++episodes.back();
      }
    }
    set_.lengths = std::move(episodes);
    set_.begin.assign(set_.lengths.size(), 0);
    for (std::size_t i = 0; i < set_.lengths.size(); ++i) {
      set_.ids.push_back(static_cast<std::uint32_t>(i));
    }
  }

  const io::NamedArrays& arrays_;
  std::string prefix_;
  const std::string& file_;
  SequenceSet set_;
};

}  // namespace

SequenceSet set_from_arrays(const io::NamedArrays& arrays, const std::string& prefix,
                            const std::string& file) {
  return Part(arrays, prefix, file).read();
}

SequenceSet set_from_array(const io::Array& array, const std::string& file) {
  const std::size_t rank = array.shape.size();
  if (rank < 1 || rank > 3) {
    throw InputError(
        file, "header",
        fmt::format("has shape {}, must be [T], [T, D] or [N, T, D]", text_of(array.shape)));
  }
  if (array.count() == 0) {
    throw InputError(file, "header",
                     fmt::format("has shape {}, must hold a value", text_of(array.shape)));
  }
  const std::int64_t N = rank == 3 ? array.shape[0] : 1, T = array.shape[rank == 3 ? 1 : 0];
  if (N > kMostRows / T) {
    throw InputError(file, "header", fmt::format("has {} rows, more than 2^31 - 1", N * T));
  }
  io::NamedArrays arrays;
  io::Array& values = arrays["values"] = array;
  values.shape = {N * T, rank == 1 ? 1 : array.shape[rank - 1]};
  const std::vector<std::int32_t> lengths(static_cast<std::size_t>(N),
                                          static_cast<std::int32_t>(T));
  arrays["lengths"] = io::Array::of({N}, lengths);
  return set_from_arrays(arrays, "", file);
}

Dataset dataset_from_arrays(const io::NamedArrays& arrays, const std::string& file) {
  Dataset dataset;
  dataset.file = file;
  const std::pair<std::string, std::string> parts[] = {
      {"all", ""}, {"train", "train_"}, {"valid", "valid_"}, {"test", "test_"}};
  std::set<std::string> known;
  for (const auto& [part, prefix] : parts) {
    bool there = false;  // where any piece of it is: a forgotten values is then named
    for (const std::string_view piece : kPieces) {
      known.insert(prefix + std::string(piece));
      there = there || arrays.contains(prefix + std::string(piece));
    }
    if (there) dataset.parts[part] = set_from_arrays(arrays, prefix, file);
  }
  for (const auto& [name, array] : arrays) {
    if (!known.contains(name)) dataset.unused.push_back(name);
  }
  if (dataset.parts.empty()) throw InputError(file, "values", "is missing, and so is train_values");
  if (dataset.has("all") && dataset.parts.size() > 1) {
    throw InputError(file, "values", "cannot stand beside train_, valid_ or test_values");
  }
  const auto& [first_name, first] = *dataset.parts.begin();
  for (const auto& [name, set] : dataset.parts) {
    for (const bool values : {true, false}) {
      const std::int64_t columns = values ? set.D : set.U, expected = values ? first.D : first.U;
      const char* piece = values ? "values" : "controls";
      if (columns != expected) {
        throw InputError(
            file, fmt::format("{}_{}", name, piece),
            fmt::format("has {} columns, {}_{} has {}", columns, first_name, piece, expected));
      }
    }
    if (set.times.empty() != first.times.empty()) {
      throw InputError(file, fmt::format("{}_times", set.times.empty() ? name : first_name),
                       "is missing, another part has it");
    }
  }
  for (std::int64_t d = 0; d < first.D; ++d) dataset.columns.push_back(std::to_string(d));
  return dataset;
}

}  // namespace seqvae::data
