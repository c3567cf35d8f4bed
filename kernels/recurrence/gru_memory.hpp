// What the GRU keeps and needs on a GPU, in one list: walked to count bytes and to place arrays.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "seqvae/core/arena.hpp"
#include "seqvae/kernels/dense.hpp"
#include "seqvae/kernels/gru.hpp"

namespace seqvae::cuda {

/// How a GRU lies in a cluster: CTAs, and the units of each; H padded up to their product.
struct GruCluster {
  int ctas, units;
};
inline constexpr GruCluster kGruClusters[] = {{8, 16}, {8, 32}, {8, 48}, {8, 64}, {16, 40}};

/// The smallest that holds H units; the last where none does.
inline GruCluster gru_cluster(std::int64_t H) {
  for (const GruCluster& cluster : kGruClusters) {
    if (H <= cluster.ctas * cluster.units) return cluster;
  }
  return kGruClusters[std::size(kGruClusters) - 1];
}

/// Of its recurrent weights in bfloat16, for forward and backward alike: a CTA's 3 U rows or
/// columns padded to 32, by all units.
inline std::size_t gru_fragments_bytes(std::int64_t H) {
  const auto [ctas, units] = gru_cluster(H);
  return static_cast<std::size_t>((3 * units + 31) / 32 * 32) * ctas * units * ctas * 2;
}

/// From forward to backward: r, z, n and q_n = R_n h + b_n.
struct GruReserve {
  float *gates, *q_n;  // [rows][3 H], [rows][H]
  std::size_t bytes;

  GruReserve(const RowLayout& layout, std::int64_t H, void* memory) {
    Arena arrays(memory);
    gates = arrays.take<float>(layout.rows_at_most() * 3 * H);
    q_n = arrays.take<float>(layout.rows_at_most() * H);
    bytes = arrays.used();
  }
};

struct GruWorkspace {
  float* gates;      // [rows][3 H]  where there is no reserve
  float *q, *carry;  // [B][3 H], [B][H]  step by step
  void* fragments;   // in a cluster
  std::size_t bytes;

  GruWorkspace(const GruArgs<float>& a, void* memory) {
    Arena arrays(memory);
    gates = a.reserve == nullptr ? arrays.take<float>(a.layout.rows_at_most() * 3 * a.H) : nullptr;
    q = arrays.take<float>(a.layout.B * 3 * a.H);
    carry = arrays.take<float>(a.layout.B * a.H);
    fragments =
        arrays.take<float>(static_cast<std::int64_t>(gru_fragments_bytes(a.H) / sizeof(float)));
    bytes = arrays.used();
  }
};

struct GruBackwardWorkspace {
  float* h_previous;      // [rows][H]
  float* grad_h0;         // [B][H]
  float *grad_q, *carry;  // [B][3 H], [B][H]  step by step
  void* fragments;        // in a cluster
  float* x;               // [rows][D]  without what padding holds, where there is padding
  float* grad_bias;       // [3 H]  what both biases of r and z have
  void* sums;             // of the weight gradients
  std::size_t bytes, sums_bytes;

  GruBackwardWorkspace(const GruBackwardArgs<float>& a, void* memory) {
    Arena arrays(memory);
    const std::int64_t rows = a.layout.rows_at_most(), B = a.layout.B;
    h_previous = arrays.take<float>(rows * a.H);
    grad_h0 = arrays.take<float>(B * a.H);
    grad_q = arrays.take<float>(B * 3 * a.H);
    carry = arrays.take<float>(B * a.H);
    fragments =
        arrays.take<float>(static_cast<std::int64_t>(gru_fragments_bytes(a.H) / sizeof(float)));
    x = a.layout.lengths != nullptr ? arrays.take<float>(rows * a.D) : nullptr;
    grad_bias = arrays.take<float>(3 * a.H);
    sums_bytes = std::max({dense_weight_gradient_workspace_bytes(rows, 3 * a.H, a.D),
                           dense_weight_gradient_workspace_bytes(rows, 2 * a.H, a.H),
                           dense_weight_gradient_workspace_bytes(rows, a.H, a.H)});
    sums = arrays.take<float>(static_cast<std::int64_t>((sums_bytes + 3) / sizeof(float)));
    bytes = arrays.used();
  }
};

}  // namespace seqvae::cuda
