#include "seqvae/models/lgssm_diagnostics.hpp"

#include <Eigen/Core>
#include <cmath>
// After Eigen/Core.
#include <unsupported/Eigen/SpecialFunctions>

#include "seqvae/core/error.hpp"

namespace seqvae {
namespace {

/// P(chi2(k) > x)
double chi_square_tail(double x, double k) { return Eigen::numext::igammac(k / 2, x / 2); }

/// One column's innovations that count, and the sums over pairs so many steps apart.
class Column {
 public:
  Column(std::span<const double> innovations, const data::SequenceSet& set, std::int64_t column)
      : e_(innovations), set_(set), starts_(set.starts()), column_(column) {
    for_each([&](std::int64_t row, std::int64_t) { sum_ += at(row), ++count_; });
    mean_ = sum_ / static_cast<double>(count_);
  }
  std::int64_t count() const { return count_; }
  double square() const {
    double sum = 0;
    for_each([&](std::int64_t row, std::int64_t) { sum += at(row) * at(row); });
    return sum;
  }
  double autocovariance(std::int64_t lag) const {
    double sum = 0;
    for_each([&](std::int64_t row, std::int64_t first) {
      if (row - lag < first || std::isnan(at(row - lag))) return;
      sum += (at(row) - mean_) * (at(row - lag) - mean_);
    });
    return sum;
  }

 private:
  double at(std::int64_t row) const { return e_[static_cast<std::size_t>(row * set_.D + column_)]; }
  /// Calls visit(row, first row of its sequence that counts) where there is an innovation.
  template <class Visit>
  void for_each(const Visit& visit) const {
    for (std::size_t i = 0; i < set_.lengths.size(); ++i) {
      const std::int64_t first = starts_[i] + set_.begin[i], end = starts_[i] + set_.lengths[i];
      for (std::int64_t row = first; row < end; ++row) {
        if (!std::isnan(at(row))) visit(row, first);
      }
    }
  }

  std::span<const double> e_;
  const data::SequenceSet& set_;
  std::vector<std::int64_t> starts_;
  std::int64_t column_, count_ = 0;
  double sum_ = 0, mean_ = 0;
};

}  // namespace

LgssmDiagnostics diagnose(std::span<const double> innovations, const data::SequenceSet& set,
                          std::int64_t lags) {
  require(lags >= 1, "diagnose", "lags", lags, ">= 1");
  LgssmDiagnostics d;
  d.lags = lags;
  double square = 0;
  for (std::int64_t j = 0; j < set.D; ++j) {
    const Column column(innovations, set, j);
    const auto N = static_cast<double>(column.count());
    d.count += column.count(), square += column.square();
    double sum = 0;
    const double variance = column.autocovariance(0);
    for (std::int64_t k = 1; k <= lags; ++k) {
      const double rho = column.autocovariance(k) / variance;
      sum += rho * rho / (N - static_cast<double>(k));
    }
    d.ljung_box.push_back(N * (N + 2) * sum);
    d.ljung_box_p.push_back(chi_square_tail(d.ljung_box.back(), static_cast<double>(lags)));
  }
  require(d.count > 0, "diagnose", "innovations that count", d.count, ">= 1");
  d.nis = square / static_cast<double>(d.count);
  const double above = chi_square_tail(square, static_cast<double>(d.count));
  d.nis_p = 2 * std::min(above, 1 - above);
  return d;
}

}  // namespace seqvae
