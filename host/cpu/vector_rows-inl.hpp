// Loops over the columns of a row in vectors, the last of them masked, and sums of a row in one
// fixed order: 16 partial sums, element d in sum d % 16, whatever the width of the vector.
#if defined(SEQVAE_VECTOR_ROWS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQVAE_VECTOR_ROWS_INL
#undef SEQVAE_VECTOR_ROWS_INL
#else
#define SEQVAE_VECTOR_ROWS_INL
#endif

#include <algorithm>
#include <limits>

#include "host/cpu/vector_math-inl.hpp"
#include "seqvae/kernels/rows.hpp"

HWY_BEFORE_NAMESPACE();
#if HWY_NATIVE_FMA
namespace seqvae::cpu::HWY_NAMESPACE {

constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(F()));
constexpr std::int64_t kSums = 16;

/// All lanes of a vector.
struct Whole {
  HWY_INLINE V load(const float* p) const { return hn::LoadU(F(), p); }
  HWY_INLINE void store(V v, float* p) const { hn::StoreU(v, F(), p); }
  HWY_INLINE V keep(V v) const { return v; }
};

/// The first few lanes: the others are neither read nor written.
struct Part {
  Mask lanes;
  HWY_INLINE V load(const float* p) const { return hn::MaskedLoad(lanes, F(), p); }
  HWY_INLINE void store(V v, float* p) const { hn::BlendedStore(v, lanes, F(), p); }
  HWY_INLINE V keep(V v) const { return hn::IfThenElseZero(lanes, v); }
};
HWY_INLINE Part first(std::int64_t count) {
  return {hn::FirstN(F(), static_cast<std::size_t>(count))};
}

/// Calls visit(d, lanes) for the columns d .. d + kLanes of a row of width D.
template <class Visit>
HWY_INLINE void for_columns(std::int64_t D, Visit&& visit) {
  std::int64_t d = 0;
  for (; d + kLanes <= D; d += kLanes) visit(d, Whole());
  if (d < D) visit(d, first(D - d));
}

/// Sum over a row of what term(d, lanes) yields; 0 where D is.
template <class Term>
HWY_INLINE float sum_columns(std::int64_t D, Term&& term) {
  constexpr std::int64_t vectors = kSums / kLanes;
  V sums[vectors];
  for (V& sum : sums) sum = hn::Zero(F());
  std::int64_t d = 0;
  for (; d + kSums <= D; d += kSums) {
    for (std::int64_t v = 0; v < vectors; ++v) {
      sums[v] = hn::Add(sums[v], term(d + v * kLanes, Whole()));
    }
  }
  for (std::int64_t v = 0; v < vectors && d < D; ++v, d += kLanes) {
    const Part lanes = first(std::min(kLanes, D - d));
    sums[v] = hn::Add(sums[v], lanes.keep(term(d, lanes)));
  }
  alignas(64) float s[kSums];
  for (std::int64_t v = 0; v < vectors; ++v) hn::Store(sums[v], F(), s + v * kLanes);
  for (std::int64_t width = kSums / 2; width > 0; width /= 2) {
    for (std::int64_t i = 0; i < width; ++i) s[i] += s[i + width];
  }
  return s[0];
}

/// The largest of a row and the sum of exp(x - largest). Where the largest is not finite, or there
/// is a NaN, the sum is NaN.
HWY_INLINE void max_and_sum_of_exp(const float* x, std::int64_t D, float& largest, float& sum) {
  V most = set(-std::numeric_limits<float>::infinity());
  for_columns(D, [&](std::int64_t d, auto lanes) HWY_ATTR {
    const V at = lanes.load(x + d);
    if constexpr (std::is_same_v<decltype(lanes), Part>) {
      most = hn::Max(most, hn::IfThenElse(lanes.lanes, at, most));
    } else {
      most = hn::Max(most, at);
    }
  });
  alignas(64) float s[kLanes];
  hn::Store(most, F(), s);
  largest = *std::max_element(s, s + kLanes);
  sum = sum_columns(D, [&](std::int64_t d, auto lanes)
                           HWY_ATTR { return exp(hn::Sub(lanes.load(x + d), set(largest))); });
}

/// Calls visit(d, lanes, p) for the softmax p of a row.
template <class Visit>
HWY_INLINE void for_softmax(const float* logits, std::int64_t D, Visit&& visit) {
  float largest, sum;
  max_and_sum_of_exp(logits, D, largest, sum);
  for_columns(D, [&](std::int64_t d, auto lanes) HWY_ATTR {
    visit(d, lanes, hn::Div(exp(hn::Sub(lanes.load(logits + d), set(largest))), set(sum)));
  });
}

/// The shape of an elementwise call: one long row where no matrix has a gap between its rows.
struct Shape {
  std::int64_t rows, D;
};
template <class... Matrix>
HWY_INLINE Shape flat(std::int64_t rows, std::int64_t D, const Matrix&... matrix) {
  const bool dense = ((matrix.data == nullptr || matrix.stride == D) && ...);
  return dense ? Shape{rows > 0 ? 1 : 0, rows * D} : Shape{rows, D};
}

}  // namespace seqvae::cpu::HWY_NAMESPACE
#endif  // HWY_NATIVE_FMA
HWY_AFTER_NAMESPACE();

#endif  // per target
