#include "seqvae/graph/parameters.hpp"

#include "seqvae/core/error.hpp"
#include "seqvae/core/random.hpp"

namespace seqvae {

std::int32_t ParameterTable::add(const std::string& name, std::int64_t rows, std::int64_t cols,
                                 Initialisation how) {
  require(rows >= 1, name, "rows", rows, ">= 1");
  require(cols >= 1, name, "cols", cols, ">= 1");
  for (const Parameter& p : parameters_) {
    if (p.name == name) throw InvalidArgument("parameters: two are called " + name);
  }
  parameters_.push_back({name, rows, cols, size_, false});
  initial_.push_back(how);
  size_ += (rows * cols + 15) / 16 * 16;
  return static_cast<std::int32_t>(parameters_.size() - 1);
}

std::int32_t ParameterTable::add_vector(const std::string& name, std::int64_t cols,
                                        Initialisation how) {
  const std::int32_t index = add(name, 1, cols, how);
  parameters_.back().is_vector = true;
  return index;
}

std::int64_t ParameterTable::count() const {
  std::int64_t total = 0;
  for (const Parameter& p : parameters_) total += p.count();
  return total;
}

std::vector<std::string> ParameterTable::names() const {
  std::vector<std::string> names;
  for (const Parameter& p : parameters_) names.push_back(p.name);
  return names;
}

template <class Real>
void ParameterTable::initialise_as(std::uint64_t seed, Real* values) const {
  for (std::int64_t i = 0; i < size_; ++i) values[i] = 0;
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    const Parameter& parameter = parameters_[p];
    const Initialisation& how = initial_[p];
    Real* out = values + parameter.offset;
    for (std::int64_t i = 0; i < parameter.count(); ++i) {
      switch (how.kind) {
        case Initialisation::Kind::zeros:
          break;
        case Initialisation::Kind::constant:
          out[i] = static_cast<Real>(how.value);
          break;
        case Initialisation::Kind::identity:
          out[i] = i / parameter.cols == i % parameter.cols ? Real{1} : Real{0};
          break;
        case Initialisation::Kind::uniform: {
          // Site 255 is the initialisation's: no draw of a model stands there.
          const Words words = philox(
              {{static_cast<std::uint32_t>(i / 4), static_cast<std::uint32_t>(p), 0, 255u << 24}},
              seed);
          const float u = uniform(words.w[i % 4]);
          out[i] = static_cast<Real>(how.value * (2.0 * u - 1.0));
          break;
        }
      }
    }
  }
}

void ParameterTable::initialise(std::uint64_t seed, float* values) const {
  initialise_as(seed, values);
}
void ParameterTable::initialise(std::uint64_t seed, double* values) const {
  initialise_as(seed, values);
}

}  // namespace seqvae
