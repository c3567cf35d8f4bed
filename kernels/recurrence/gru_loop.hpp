// The recurrent part of a GRU, between the product for its input and what is made of its gates.
#pragma once
#include "seqvae/core/stream.hpp"
#include "seqvae/kernels/rows.hpp"

namespace seqvae::cuda {

/// Fields as in GruArgs, in device memory.
struct GruLoop {
  RowLayout layout;
  std::int64_t H = 0;
  bool reverse = false;
  const float* weight_hh = nullptr;     ///< [3 H][H]
  const float* bias_hh = nullptr;       ///< [3 H]  optional
  Rows<const float> h0;                 ///< [B][H]  optional
  const std::uint8_t* reset = nullptr;  ///< [rows]  optional
  float* gates = nullptr;  ///< [rows][3 H]  in: W_ih x + b_ih; out, where kept: r, z, n
  float* q_n = nullptr;    ///< out [rows][H]  null: neither gates nor q_n are kept
  Rows<float> h;           ///< out [rows][H]
  Rows<float> h_final;     ///< out [B][H]  optional
};

/// Its gradient: from those of h and h_final, and what the forward kept.
struct GruBackwardLoop {
  RowLayout layout;
  std::int64_t H = 0;
  bool reverse = false;
  const float* weight_hh = nullptr;
  Rows<const float> h0;
  const std::uint8_t* reset = nullptr;
  Rows<const float> h;             ///< [rows][H]
  Rows<const float> grad_h;        ///< [rows][H]  optional
  Rows<const float> grad_h_final;  ///< [B][H]  optional
  float* gates = nullptr;  ///< [rows][3 H]  in: r, z, n; out: gradients of W x + b, 0 in padding
  float* q_n = nullptr;    ///< [rows][H]  in: q_n; out: its gradient, 0 in padding
  float* h_previous = nullptr;  ///< out [rows][H]  the carry that a step began with; 0 in padding
  float* grad_h0 = nullptr;     ///< out [B][H]
};

/// Whether all steps run in one kernel, its weights in bfloat16 in the registers of a cluster:
/// where H fits, the device has such clusters, and 32 bits count the elements of all rows.
bool gru_fits_cluster(std::int64_t H, std::int64_t rows, std::int64_t longest_stride);
/// That kernel. \p fragments: gru_fragments_bytes(H) of scratch. \pre gru_fits_cluster
void gru_in_cluster(const GruLoop& loop, void* fragments, Stream stream);
void gru_backward_in_cluster(const GruBackwardLoop& loop, void* fragments, Stream stream);

/// In float, a product and a kernel a step. \p q: [B][3 H], \p carry: [B][H], of scratch.
void gru_by_steps(const GruLoop& loop, float* q, float* carry, Stream stream);
/// \p grad_q: [B][3 H], \p carry: [B][H], of scratch.
void gru_backward_by_steps(const GruBackwardLoop& loop, float* grad_q, float* carry, Stream stream);

}  // namespace seqvae::cuda
