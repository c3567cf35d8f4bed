// Vectors of many sequences side by side, X[n][count] with sequence g in column g: what covariances
// that all share do to means is then one product. Each column has the bits that it has alone.
#pragma once
#include "host/cpu/kalman_step.hpp"

namespace seqvae::cpu::kalman {

/// x[rows] to column g of X[rows][count], and back.
template <class Real>
void put_column(std::int64_t rows, const Real* x, std::int64_t count, std::int64_t g, Real* X) {
  for (std::int64_t i = 0; i < rows; ++i) X[i * count + g] = x[i];
}
template <class Real>
void take_column(std::int64_t rows, std::int64_t count, std::int64_t g, const Real* X, Real* x) {
  for (std::int64_t i = 0; i < rows; ++i) x[i] = X[i * count + g];
}

/// A linear map, made by what it does to each unit vector.
template <class Real>
class LinearMap {
 public:
  LinearMap(std::int64_t most_terms, std::int64_t most_results, Arena& arena)
      : columns_((most_results + 15) / 16 * 16) {
    map_ = arena.take<Real>(most_terms * columns_);
    turned_ = arena.take<Real>(most_terms * columns_);
    results_ = arena.take<Real>(columns_);
  }

  void clear(std::int64_t terms) {
    terms_ = terms;
    std::fill_n(map_, terms * columns_, Real(0));
  }
  /// Of unit vector `term`, to be written: zeros so far.
  Real* image(std::int64_t term) const { return map_ + term * columns_; }
  /// All images are written.
  void finish() { transpose(terms_, columns_, map_, turned_); }

  std::int64_t terms() const { return terms_; }
  std::int64_t columns() const { return columns_; }  ///< of matrix(), zeros at the end of a row
  const Real* matrix() const { return map_; }        ///< [terms][columns]

  /// out[results][count], from result `first` on, of x[terms][count].
  void apply(std::int64_t first, std::int64_t results, std::int64_t count, const Real* x,
             Real* out) const {
    if (count > 1) return multiply(results, terms_, count, turned_ + first * terms_, x, out);
    multiply(1, terms_, columns_, x, map_, results_);
    std::copy_n(results_ + first, results, out);
  }

 private:
  std::int64_t columns_, terms_ = 0;
  Real *map_, *turned_, *results_;
};

}  // namespace seqvae::cpu::kalman
