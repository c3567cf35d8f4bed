// Products of rows: panels of packed weights outside, blocks of rows that stay in L2 outside those.
#include "seqvae/kernels/dense.hpp"

#include <algorithm>
#include <limits>

#include "host/cpu/product.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/kernels/reduce.hpp"

namespace seqvae::cpu {
namespace {

// Rows that meet a panel before the next one is read: 12 tiles of the widest vectors.
constexpr std::int64_t kBlockRows = 120;

template <class Real>
std::int64_t panel_count(std::int64_t N) {
  return (N + kPanelColumns<Real> - 1) / kPanelColumns<Real>;
}

template <class Real>
std::int64_t packed_columns(std::int64_t N) {
  const std::int64_t last = panel_count<Real>(N) - 1;
  return last * kPanelColumns<Real> + panel_width<Real>(N, last);
}

}  // namespace

template <class Real>
std::size_t PackedWeights<Real>::bytes(std::int64_t N, std::int64_t K) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  require(N >= 1, "PackedWeights", "N", N, ">= 1");
  require(K >= 1, "PackedWeights", "K", K, ">= 1");
  require(N <= most / K, "PackedWeights", "N", N, "<= (2^31 - 1) / K");
  return static_cast<std::size_t>(packed_columns<Real>(N) * K) * sizeof(Real);
}

template <class Real>
PackedWeights<Real>::PackedWeights(std::int64_t N, std::int64_t K)
    : N_(N),
      K_(K),
      own_(std::aligned_alloc(64, bytes(N, K))),
      data_(static_cast<Real*>(own_.get())) {
  if (data_ == nullptr) throw std::bad_alloc();
  std::fill_n(data_, bytes(N, K) / sizeof(Real), Real{0});
}

template <class Real>
PackedWeights<Real>::PackedWeights(std::int64_t N, std::int64_t K, void* memory)
    : N_(N), K_(K), data_(static_cast<Real*>(memory)) {
  bytes(N, K);  // its checks
  require_pointer(memory, "PackedWeights", "memory");
  require(reinterpret_cast<std::uintptr_t>(memory) % 64 == 0, "PackedWeights", "memory", memory,
          "aligned to 64 bytes");
}

template <class Real>
void PackedWeights<Real>::pack(const Real* W, std::int64_t ldw, bool transposed) {
  require_pointer(W, "PackedWeights::pack", "W");
  const std::int64_t row_length = transposed ? N_ : K_;
  require(ldw >= row_length, "PackedWeights::pack", "ldw", ldw, fmt::format(">= {}", row_length));
  Real* panel = data_;
  for (std::int64_t p = 0; p < panel_count<Real>(N_); ++p) {
    const std::int64_t width = panel_width<Real>(N_, p), n = p * kPanelColumns<Real>;
    const std::int64_t columns = std::min(width, N_ - n);
    if (transposed) {
      for (std::int64_t k = 0; k < K_; ++k) {
        std::copy_n(W + k * ldw + n, columns, panel + k * width);
        std::fill_n(panel + k * width + columns, width - columns, Real{0});
      }
    } else {
      // Squares of 16: a cache line of W serves 16 values of k before it is dropped.
      for (std::int64_t k0 = 0; k0 < K_; k0 += 16) {
        const std::int64_t k1 = std::min(k0 + 16, K_);
        for (std::int64_t j = 0; j < width; ++j) {
          for (std::int64_t k = k0; k < k1; ++k) {
            panel[k * width + j] = j < columns ? W[(n + j) * ldw + k] : Real{0};
          }
        }
      }
    }
    panel += width * K_;
  }
}

template <class Real>
void dense(const DenseArgs<Real>& a) {
  check(a, WeightForm::packed);
  const std::int64_t N = a.weights->N(), K = a.weights->K();
  for (std::int64_t row = 0; row < a.M; row += kBlockRows) {
    PanelProduct<Real> p;
    p.rows = std::min(kBlockRows, a.M - row);
    p.K = K;
    p.panel = a.weights->data();
    p.x = {a.x[row], a.x.stride};
    for (std::int64_t n = 0; n < N; n += kPanelColumns<Real>) {
      p.width = panel_width<Real>(N, n / kPanelColumns<Real>);
      p.columns = std::min(p.width, N - n);
      if (a.bias != nullptr) p.bias = a.bias + n;
      if (a.addend) p.addend = {a.addend[row] + n, a.addend.stride};
      p.y = {a.y[row] + n, a.y.stride};
      panel_product(p);
      p.panel += p.width * K;
    }
    const Rows<Real> y(a.y[row], a.y.stride);
    if (a.activated) {
      const Rows<const Real> activated(a.activated[row], a.activated.stride);
      activation_backward<Real>({a.activation, p.rows, N, activated, y, y});
    } else if (a.activation != Activation::identity) {
      activation<Real>({a.activation, p.rows, N, y, y});
    }
  }
}

template <class Real>
void products(const ProductsArgs<Real>& a) {
  check(a, WeightForm::packed);
  for (std::int64_t i = 0; i < a.count; ++i) dense(a.calls[i]);
}

template <class Real>
void dense_weight_gradient(const DenseWeightGradientArgs<Real>& a) {
  check(a);
  if (a.grad_bias != nullptr && !a.accumulate) std::fill_n(a.grad_bias, a.N, Real{0});
  if (a.M == 0 && !a.accumulate) {
    for (std::int64_t n = 0; n < a.N; ++n) std::fill_n(a.grad_W[n], a.K, Real{0});
  }
  for (std::int64_t row = 0; row < a.M; row += kSummedRows) {
    OuterProducts<Real> p;
    p.summed = std::min(kSummedRows, a.M - row), p.N = a.N, p.K = a.K;
    p.a = {a.grad_y[row], a.grad_y.stride}, p.x = {a.x[row], a.x.stride};
    p.y = a.grad_W;
    if (a.accumulate || row > 0) p.addend = p.y;
    if (a.grad_bias != nullptr) add_column_sums(p.summed, a.N, p.a, a.grad_bias);
    outer_products(p);
  }
}

template <class Real>
void weight_gradients(const WeightGradientsArgs<Real>& a) {
  check(a);
  for (std::int64_t i = 0; i < a.count; ++i) {
    const DenseWeightGradientArgs<Real>& call = a.calls[i];
    if (call.K > 0) {
      dense_weight_gradient(call);
    } else {
      sum_over_rows(
          SumOverRowsArgs<Real>{call.M, call.N, call.accumulate, call.grad_y, call.grad_bias});
    }
  }
}

template class PackedWeights<float>;
template class PackedWeights<double>;
template void dense(const DenseArgs<float>&);
template void dense(const DenseArgs<double>&);
template void products(const ProductsArgs<float>&);
template void products(const ProductsArgs<double>&);
template void dense_weight_gradient(const DenseWeightGradientArgs<float>&);
template void dense_weight_gradient(const DenseWeightGradientArgs<double>&);
template void weight_gradients(const WeightGradientsArgs<float>&);
template void weight_gradients(const WeightGradientsArgs<double>&);

}  // namespace seqvae::cpu
