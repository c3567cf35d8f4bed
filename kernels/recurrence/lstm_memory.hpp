// What the LSTM keeps and needs on a GPU, in one list: walked to count bytes and to place arrays.
#pragma once
#include <algorithm>

#include "seqvae/core/arena.hpp"
#include "seqvae/kernels/dense.hpp"
#include "seqvae/kernels/lstm.hpp"

namespace seqvae::cuda {

inline constexpr std::int64_t kLstmMostUnits = 640;  ///< H that a cluster holds

/// How an LSTM lies in a cluster: CTAs, and the units of each; H padded up to their product.
template <int kCluster, int kUnits>
struct LstmCluster {
  static constexpr int ctas = kCluster, units = kUnits;
};

/// f of the smallest cluster that holds H units; of the largest where none does.
template <class F>
auto with_lstm_cluster(std::int64_t H, F f) {
  if (H <= 8 * 16) return f(LstmCluster<8, 16>());
  if (H <= 8 * 32) return f(LstmCluster<8, 32>());
  if (H <= 8 * 48) return f(LstmCluster<8, 48>());
  if (H <= 16 * 32) return f(LstmCluster<16, 32>());
  return f(LstmCluster<16, 40>());
}

/// f of the cluster for B sequences, 8 each. A GPU holds few of 16 CTAs side by side; where some
/// would wait for others, wider ones of 8 serve: a third of their weights is read from shared
/// memory at each step, but twice as many are under way. \p at_once: how many of a kind can be.
template <class AtOnce, class F>
auto with_lstm_cluster_for(std::int64_t H, std::int64_t B, AtOnce at_once, F f) {
  return with_lstm_cluster(H, [&](auto cluster) {
    if constexpr (cluster.ctas == 16 && cluster.units == 32) {
      if (at_once(cluster) < (B + 7) / 8) return f(LstmCluster<8, 64>());
    }
    return f(cluster);
  });
}

/// Of its recurrent weights in bfloat16, for forward and backward alike.
inline std::size_t lstm_fragments_bytes(std::int64_t H) {
  return with_lstm_cluster(H, [](auto cluster) {
    constexpr std::size_t hidden = cluster.ctas * cluster.units;
    return 2 * 4 * hidden * hidden;
  });
}

/// From forward to backward: i, f, g, o and c.
struct LstmReserve {
  float *gates, *c;  // [rows][4 H], [rows][H]
  std::size_t bytes;

  LstmReserve(const RowLayout& layout, std::int64_t H, void* memory) {
    Arena arrays(memory);
    gates = arrays.take<float>(layout.rows_at_most() * 4 * H);
    c = arrays.take<float>(layout.rows_at_most() * H);
    bytes = arrays.used();
  }
};

struct LstmWorkspace {
  float* gates;      // [rows][4 H]  where there is no reserve
  float *q, *carry;  // [B][4 H], [2][B][H]  step by step
  void* fragments;   // in a cluster
  std::size_t bytes;

  LstmWorkspace(const LstmArgs<float>& a, void* memory) {
    Arena arrays(memory);
    gates = a.reserve == nullptr ? arrays.take<float>(a.layout.rows_at_most() * 4 * a.H) : nullptr;
    q = arrays.take<float>(a.layout.B * 4 * a.H);
    carry = arrays.take<float>(2 * a.layout.B * a.H);
    fragments =
        arrays.take<float>(static_cast<std::int64_t>(lstm_fragments_bytes(a.H) / sizeof(float)));
    bytes = arrays.used();
  }
};

struct LstmBackwardWorkspace {
  float* h_previous;         // [rows][H]
  float *grad_h0, *grad_c0;  // [B][H]
  float *grad_a, *carry;     // [B][4 H], [2][B][H]  step by step
  void* fragments;           // in a cluster
  float* x;                  // [rows][D]  without what padding holds, where there is padding
  float* grad_bias;          // [4 H]
  void* sums;                // of the weight gradients
  std::size_t bytes, sums_bytes;

  LstmBackwardWorkspace(const LstmBackwardArgs<float>& a, void* memory) {
    Arena arrays(memory);
    const std::int64_t rows = a.layout.rows_at_most(), B = a.layout.B;
    h_previous = arrays.take<float>(rows * a.H);
    grad_h0 = arrays.take<float>(B * a.H);
    grad_c0 = arrays.take<float>(B * a.H);
    grad_a = arrays.take<float>(B * 4 * a.H);
    carry = arrays.take<float>(2 * B * a.H);
    fragments =
        arrays.take<float>(static_cast<std::int64_t>(lstm_fragments_bytes(a.H) / sizeof(float)));
    x = a.layout.lengths != nullptr ? arrays.take<float>(rows * a.D) : nullptr;
    grad_bias = arrays.take<float>(4 * a.H);
    sums_bytes = std::max(dense_weight_gradient_workspace_bytes(rows, 4 * a.H, a.D),
                          dense_weight_gradient_workspace_bytes(rows, 4 * a.H, a.H));
    sums = arrays.take<float>(static_cast<std::int64_t>((sums_bytes + 3) / sizeof(float)));
    bytes = arrays.used();
  }
};

}  // namespace seqvae::cuda
