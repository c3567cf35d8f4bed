// A tile of rows x two vectors of columns stays in registers over the whole of K; weights come
// from L2 or L3 in the order they lie in, x from L1. Compiled for each vector width that the
// architecture knows and chosen at run time (Highway).
#include "host/cpu/product.hpp"

#include <algorithm>

// Tiles are arrays of vectors, so vectors must have a size when compiled.
#define HWY_DISABLED_TARGETS \
  (HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/product.cpp"
#include <hwy/foreach_target.h>
// foreach_target stands first
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace seqvae::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Accumulators a tile may have: two vectors a row, and registers to spare for weights and x.
#if HWY_TARGET <= HWY_AVX3
constexpr int kMostRows = 10;
#else
constexpr int kMostRows = 6;
#endif

// How far ahead of its use a packed panel is fetched: 2 KiB hide L3's latency (measured).
constexpr std::size_t kPrefetchBytes = 2048;

template <class D, class Real = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_first(D d, const Real* from, std::int64_t count) {
#if HWY_MEM_OPS_MIGHT_FAULT
  HWY_ALIGN Real lanes[hn::MaxLanes(D())] = {};
  for (std::int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return hn::Load(d, lanes);
#else
  return hn::MaskedLoad(hn::FirstN(d, static_cast<std::size_t>(count)), d, from);
#endif
}

template <class D, class Real = hn::TFromD<D>>
HWY_INLINE void store_first(D d, hn::Vec<D> v, Real* to, std::int64_t count) {
#if HWY_MEM_OPS_MIGHT_FAULT
  HWY_ALIGN Real lanes[hn::MaxLanes(D())];
  hn::Store(v, d, lanes);
  for (std::int64_t i = 0; i < count; ++i) to[i] = lanes[i];
#else
  hn::BlendedStore(v, hn::FirstN(d, static_cast<std::size_t>(count)), d, to);
#endif
}

// One vector of sums, of which `columns` exist, plus addend, to memory.
template <class D, class Real = hn::TFromD<D>>
HWY_INLINE void finish(D d, hn::Vec<D> sum, const Real* addend, Real* y, std::int64_t columns) {
  if (columns >= static_cast<std::int64_t>(hn::Lanes(d))) {
    hn::StoreU(addend == nullptr ? sum : hn::Add(sum, hn::LoadU(d, addend)), d, y);
  } else if (columns > 0) {
    if (addend != nullptr) sum = hn::Add(sum, load_first(d, addend, columns));
    store_first(d, sum, y, columns);
  }
}

template <class D, class Real = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> bias_of(D d, const Real* bias, std::int64_t columns) {
  if (bias == nullptr || columns <= 0) return hn::Zero(d);
  if (columns >= static_cast<std::int64_t>(hn::Lanes(d))) return hn::LoadU(d, bias);
  return load_first(d, bias, columns);
}

// kRows rows from row0, kVectors vectors of columns from column0. kTransposed: x stands packed tile
// after tile, each [K][kRows].
template <int kRows, int kVectors, bool kTransposed, class D, class Real = hn::TFromD<D>>
HWY_NOINLINE void tile(D d, const PanelProduct<Real>& p, std::int64_t row0, std::int64_t column0) {
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  hn::Vec<D> sums[kRows][kVectors];
  const Real* x[kRows];
  HWY_UNROLL(2)
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t column = column0 + v * lanes;
    sums[0][v] = bias_of(d, p.bias != nullptr ? p.bias + column : nullptr, p.columns - column);
  }
  HWY_UNROLL(10)
  for (int r = 0; r < kRows; ++r) {
    x[r] = !kTransposed ? p.x[row0 + r] : p.x.data + (p.x.stride == 0 ? row0 * p.K : row0) + r;
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = sums[0][v];
      // What is written last is asked for first.
      __builtin_prefetch(p.y[row0 + r] + column0 + v * lanes, 1);
    }
  }
  const Real* panel = p.panel + column0;
  const std::int64_t next = p.x.stride == 0 ? kRows : p.x.stride;  // where kTransposed
  HWY_UNROLL(1)
  for (std::int64_t k = 0; k < p.K; ++k) {
    hn::Vec<D> w[kVectors];
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) {
      w[v] = hn::LoadU(d, panel + v * lanes);
      if (!kTransposed && v * lanes * sizeof(Real) % 64 == 0) {
        __builtin_prefetch(panel + v * lanes + kPrefetchBytes / sizeof(Real));
      }
    }
    panel += p.width;
    HWY_UNROLL(10)
    for (int r = 0; r < kRows; ++r) {
      const auto factor = hn::Set(d, kTransposed ? x[0][r] : x[r][k]);
      HWY_UNROLL(2)
      for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(factor, w[v], sums[r][v]);
    }
    if (kTransposed) {
      // Rows far apart are not foreseen: the next block's.
      if (p.x.stride != 0) __builtin_prefetch(x[0] + p.K * next, 0, 2);
      x[0] += next;
    } else {
      // The next tile's rows, which follow this one's where rows are dense.
      __builtin_prefetch(x[kRows - 1] + p.x.stride + k * kRows);
    }
  }
  const bool whole = p.columns - column0 >= kVectors * lanes;
  HWY_UNROLL(10)
  for (int r = 0; r < kRows; ++r) {
    Real* y = p.y[row0 + r] + column0;
    const Real* addend = p.addend ? p.addend[row0 + r] + column0 : nullptr;
    HWY_UNROLL(2)
    for (int v = 0; v < kVectors; ++v) {
      finish(d, sums[r][v], addend == nullptr ? nullptr : addend + v * lanes, y + v * lanes,
             whole ? lanes : p.columns - column0 - v * lanes);
    }
  }
}

template <int kVectors, bool kTransposed, class D, class Real = hn::TFromD<D>>
void tile_of(D d, const PanelProduct<Real>& p, std::int64_t row0, std::int64_t rows,
             std::int64_t column0) {
  static_assert(kMostRows == 6 || kMostRows == 10);
  switch (rows) {
    case 1:
      return tile<1, kVectors, kTransposed>(d, p, row0, column0);
    case 2:
      return tile<2, kVectors, kTransposed>(d, p, row0, column0);
    case 3:
      return tile<3, kVectors, kTransposed>(d, p, row0, column0);
    case 4:
      return tile<4, kVectors, kTransposed>(d, p, row0, column0);
    case 5:
      return tile<5, kVectors, kTransposed>(d, p, row0, column0);
    case 6:
      return tile<6, kVectors, kTransposed>(d, p, row0, column0);
#if HWY_TARGET <= HWY_AVX3
    case 7:
      return tile<7, kVectors, kTransposed>(d, p, row0, column0);
    case 8:
      return tile<8, kVectors, kTransposed>(d, p, row0, column0);
    case 9:
      return tile<9, kVectors, kTransposed>(d, p, row0, column0);
    case 10:
      return tile<10, kVectors, kTransposed>(d, p, row0, column0);
#endif
  }
}

// Rows in tiles of equal height, as nearly as may be.
template <int kVectors, bool kTransposed, class D, class Real = hn::TFromD<D>>
void columns_of(D d, const PanelProduct<Real>& p, std::int64_t column0) {
  const std::int64_t tiles = (p.rows + kMostRows - 1) / kMostRows;
  for (std::int64_t t = 0; t < tiles; ++t) {
    const std::int64_t begin = p.rows * t / tiles, end = p.rows * (t + 1) / tiles;
    tile_of<kVectors, kTransposed>(d, p, begin, end - begin, column0);
  }
}

template <bool kTransposed, class Real>
void product(const PanelProduct<Real>& p) {
  const hn::CappedTag<Real, 64 / sizeof(Real)> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t column = 0; column < p.columns; column += 2 * lanes) {
    if (p.width - column >= 2 * lanes) {
      columns_of<2, kTransposed>(d, p, column);
    } else {
      columns_of<1, kTransposed>(d, p, column);
    }
  }
}

// Columns begin .. end of a, tile after tile as columns_of makes them, each [summed][its columns].
// Eight tiles at a time: what they take of a row is a few cache lines, fetched eight rows ahead.
template <class Real>
void pack_tiles(const OuterProducts<Real>& p, std::int64_t begin, std::int64_t end, Real* packed) {
  constexpr std::int64_t kTogether = 8, kAhead = 8;
  const hn::CappedTag<Real, 64 / sizeof(Real)> d;
  const std::int64_t columns = end - begin, tiles = (columns + kMostRows - 1) / kMostRows;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t t0 = 0; t0 < tiles; t0 += kTogether) {
    const std::int64_t some = std::min(kTogether, tiles - t0);
    std::int64_t first[kTogether + 1];
    for (std::int64_t t = 0; t <= some; ++t) first[t] = columns * (t0 + t) / tiles;
    for (std::int64_t r = 0; r < p.summed; ++r) {
      const Real* row = p.a[r] + begin;
      for (std::int64_t c = first[0]; c < first[some];
           c += 64 / static_cast<std::int64_t>(sizeof(Real))) {
        __builtin_prefetch(row + kAhead * p.a.stride + c);
      }
      for (std::int64_t t = 0; t < some; ++t) {
        const std::int64_t height = first[t + 1] - first[t];
        Real* to = packed + first[t] * p.summed + r * height;
        for (std::int64_t c = 0; c < height; c += lanes) {
          const Real* from = row + first[t] + c;
          // Whole vectors where a has as many columns, and what is written too much lies in later
          // rows of the same tile.
          if (begin + first[t] + c + lanes <= p.N && c + lanes <= (p.summed - r) * height) {
            hn::StoreU(hn::LoadU(d, from), d, to + c);
          } else {
            std::copy_n(from, std::min(lanes, height - c), to + c);
          }
        }
      }
    }
  }
}

// Both operands are packed, a in blocks of columns, x a panel at a time: they lie in rows far
// apart, which the hardware does not foresee. A panel is as wide as a tile, so that it is all that
// L1 holds beside one.
template <class Real>
void sum_outer_products(const OuterProducts<Real>& p) {
  constexpr std::int64_t kBlock = 160;
  const hn::CappedTag<Real, 64 / sizeof(Real)> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d)), width = 2 * lanes;
  alignas(64) Real tiles[kBlock * kSummedRows];
  alignas(64) Real panel[kSummedRows * kPanelColumns<Real>];
  for (std::int64_t n = 0; n < p.N; n += kBlock) {
    PanelProduct<Real> one;
    one.rows = std::min(kBlock, p.N - n), one.K = p.summed;
    one.x = {p.a.data + n, p.a.stride}, one.panel = panel;
    if (p.K > 2 * kPanelColumns<Real>) {
      pack_tiles(p, n, n + one.rows, tiles);
      one.x = {tiles, 0};
    }
    for (std::int64_t k = 0; k < p.K; k += width) {
      one.columns = std::min(width, p.K - k);
      one.width = one.columns > lanes ? width : lanes;
      const std::int64_t next = k + width < p.K ? k + width : 0;
      for (std::int64_t r = 0; r < p.summed; ++r) {
        __builtin_prefetch(p.x[r] + next, 0, 2);
        for (std::int64_t c = 0; c < one.width; c += lanes) {
          const std::int64_t some = std::min(lanes, one.columns - c);
          const Real* from = p.x[r] + k + c;
          hn::Store(some == lanes ? hn::LoadU(d, from) : load_first(d, from, some), d,
                    panel + r * one.width + c);
        }
      }
      one.y = {p.y[n] + k, p.y.stride};
      if (p.addend) one.addend = {p.addend[n] + k, p.addend.stride};
      product<true>(one);
    }
  }
}

// sums[c] += sum_r x[r][c], four vectors of columns at a time.
template <class Real>
void add_columns(std::int64_t rows, std::int64_t columns, Rows<const Real> x, Real* sums) {
  const hn::CappedTag<Real, 64 / sizeof(Real)> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t c = 0;
  for (; c + 4 * lanes <= columns; c += 4 * lanes) {
    auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
    const Real* at = x.data + c;
    for (std::int64_t r = 0; r < rows; ++r, at += x.stride) {
      s0 = hn::Add(s0, hn::LoadU(d, at));
      s1 = hn::Add(s1, hn::LoadU(d, at + lanes));
      s2 = hn::Add(s2, hn::LoadU(d, at + 2 * lanes));
      s3 = hn::Add(s3, hn::LoadU(d, at + 3 * lanes));
    }
    finish(d, s0, sums + c, sums + c, lanes);
    finish(d, s1, sums + c + lanes, sums + c + lanes, lanes);
    finish(d, s2, sums + c + 2 * lanes, sums + c + 2 * lanes, lanes);
    finish(d, s3, sums + c + 3 * lanes, sums + c + 3 * lanes, lanes);
  }
  for (; c < columns; c += lanes) {
    const std::int64_t some = columns - c;
    auto sum = hn::Zero(d);
    for (std::int64_t r = 0; r < rows; ++r) {
      const Real* at = x[r] + c;
      sum = hn::Add(sum, some >= lanes ? hn::LoadU(d, at) : load_first(d, at, some));
    }
    finish(d, sum, sums + c, sums + c, some);
  }
}

void columns_float(std::int64_t rows, std::int64_t columns, Rows<const float> x, float* sums) {
  add_columns(rows, columns, x, sums);
}
void columns_double(std::int64_t rows, std::int64_t columns, Rows<const double> x, double* sums) {
  add_columns(rows, columns, x, sums);
}
void panel_float(const PanelProduct<float>& p) { product<false>(p); }
void panel_double(const PanelProduct<double>& p) { product<false>(p); }
void outer_float(const OuterProducts<float>& p) { sum_outer_products(p); }
void outer_double(const OuterProducts<double>& p) { sum_outer_products(p); }

}  // namespace HWY_NAMESPACE
}  // namespace seqvae::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqvae::cpu {

HWY_EXPORT(columns_float);
HWY_EXPORT(columns_double);
HWY_EXPORT(panel_float);
HWY_EXPORT(panel_double);
HWY_EXPORT(outer_float);
HWY_EXPORT(outer_double);

void add_column_sums(std::int64_t rows, std::int64_t columns, Rows<const float> x, float* sums) {
  HWY_DYNAMIC_DISPATCH(columns_float)(rows, columns, x, sums);
}
void add_column_sums(std::int64_t rows, std::int64_t columns, Rows<const double> x, double* sums) {
  HWY_DYNAMIC_DISPATCH(columns_double)(rows, columns, x, sums);
}
void panel_product(const PanelProduct<float>& p) { HWY_DYNAMIC_DISPATCH(panel_float)(p); }
void panel_product(const PanelProduct<double>& p) { HWY_DYNAMIC_DISPATCH(panel_double)(p); }
void outer_products(const OuterProducts<float>& p) { HWY_DYNAMIC_DISPATCH(outer_float)(p); }
void outer_products(const OuterProducts<double>& p) { HWY_DYNAMIC_DISPATCH(outer_double)(p); }

}  // namespace seqvae::cpu
#endif
