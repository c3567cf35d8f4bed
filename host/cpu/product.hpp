// The inner loops of all products of rows: one panel of packed columns times some rows.
#pragma once
#include <cstdint>

#include "seqvae/kernels/rows.hpp"

namespace seqvae::cpu {

/// Columns of a full panel: two cache lines, two AVX-512 vectors.
template <class Real>
inline constexpr std::int64_t kPanelColumns = 128 / sizeof(Real);

/// Columns that panel p of N columns takes in memory: a whole panel, or half of the last one.
template <class Real>
constexpr std::int64_t panel_width(std::int64_t N, std::int64_t panel) {
  constexpr std::int64_t whole = kPanelColumns<Real>;
  return N - panel * whole <= whole / 2 ? whole / 2 : whole;
}

///     y[r][j] = (bias[j] + sum_k x[r][k] panel[k][j]) + addend[r][j],   j < columns
/// Each element is one chain of fused multiply-adds in order of k, begun at the bias, then one sum:
/// the same bits for each number of rows and each place among them.
template <class Real>
struct PanelProduct {
  std::int64_t rows = 0, K = 0;
  std::int64_t columns = 0;     // 1 .. width
  std::int64_t width = 0;       // of the panel in memory; whole vectors of it are read
  const Real* panel = nullptr;  // [K][width]
  Rows<const Real> x;           // [rows][K]
  const Real* bias = nullptr;   // [columns]  optional
  Rows<const Real> addend;      // [rows][columns]  optional; may be y
  Rows<Real> y;                 // out [rows][columns]
};

void panel_product(const PanelProduct<float>& product);
void panel_product(const PanelProduct<double>& product);

/// Rows at most that are summed over by one outer_products.
inline constexpr std::int64_t kSummedRows = 256;

///     y[i][j] = sum_r a[r][i] x[r][j] + addend[i][j]
/// Each element is one chain of fused multiply-adds in order of r, then one sum.
template <class Real>
struct OuterProducts {
  std::int64_t summed = 0;  // rows of a and x; 1 .. kSummedRows
  std::int64_t N = 0, K = 0;
  Rows<const Real> a;       // [summed][N]
  Rows<const Real> x;       // [summed][K]
  Rows<const Real> addend;  // [N][K]  optional; may be y
  Rows<Real> y;             // out [N][K]
};

void outer_products(const OuterProducts<float>& products);
void outer_products(const OuterProducts<double>& products);

/// sums[c] += sum_r x[r][c], c < columns.
void add_column_sums(std::int64_t rows, std::int64_t columns, Rows<const float> x, float* sums);
void add_column_sums(std::int64_t rows, std::int64_t columns, Rows<const double> x, double* sums);

}  // namespace seqvae::cpu
