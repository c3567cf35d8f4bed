/// \file  The parameters of a model: names, shapes and places in one flat buffer.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace seqvae {

/// One named matrix [rows][cols] (a vector: rows 1), row-major at `offset` of the flat buffer.
struct Parameter {
  std::string name;  ///< as in a PyTorch state dict
  std::int64_t rows = 1, cols = 1;
  std::int64_t offset = 0;  ///< a multiple of 16 elements
  bool is_vector = false;   ///< its shape in a file is [cols], not [1, cols]
  std::int64_t count() const { return rows * cols; }
};

/// How a parameter starts.
struct Initialisation {
  enum class Kind { zeros, constant, identity, uniform } kind = Kind::zeros;
  double value = 0;  ///< constant: the value; uniform: on (-value, value)
};

/// The table that a model's modules fill. Values live elsewhere: float or double, host or device.
class ParameterTable {
 public:
  /// Index of a new parameter. \throws InvalidArgument on a name that is taken.
  std::int32_t add(const std::string& name, std::int64_t rows, std::int64_t cols,
                   Initialisation how);
  std::int32_t add_vector(const std::string& name, std::int64_t cols, Initialisation how);

  /// Changes how a parameter starts.
  void restart(std::int32_t index, Initialisation how) {
    initial_[static_cast<std::size_t>(index)] = how;
  }

  const std::vector<Parameter>& all() const { return parameters_; }
  const Parameter& operator[](std::int32_t index) const {
    return parameters_[static_cast<std::size_t>(index)];
  }
  std::int64_t size() const { return size_; }  ///< elements of the flat buffer, gaps included
  std::int64_t count() const;                  ///< parameters proper
  std::vector<std::string> names() const;

  /// Initial values, drawn by Philox from `seed` and the parameter's place in the table.
  void initialise(std::uint64_t seed, float* values) const;
  void initialise(std::uint64_t seed, double* values) const;

 private:
  template <class Real>
  void initialise_as(std::uint64_t seed, Real* values) const;

  std::vector<Parameter> parameters_;
  std::vector<Initialisation> initial_;
  std::int64_t size_ = 0;
};

}  // namespace seqvae
