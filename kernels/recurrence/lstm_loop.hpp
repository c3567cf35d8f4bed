// The recurrent part of an LSTM, between the product for its input and what is made of its gates.
#pragma once
#include "seqvae/core/stream.hpp"
#include "seqvae/kernels/rows.hpp"

namespace seqvae::cuda {

/// Fields as in LstmArgs, in device memory.
struct LstmLoop {
  RowLayout layout;
  std::int64_t H = 0;
  bool reverse = false;
  const float* weight_hh = nullptr;     ///< [4 H][H]
  const float* bias_hh = nullptr;       ///< [4 H]  optional
  Rows<const float> h0, c0;             ///< [B][H]  optional
  const std::uint8_t* reset = nullptr;  ///< [rows]  optional
  float* gates = nullptr;        ///< [rows][4 H]  in: W_ih x + b_ih; out, where kept: i, f, g, o
  float* c = nullptr;            ///< out [rows][H]  null: neither gates nor c are kept
  Rows<float> h;                 ///< out [rows][H]
  Rows<float> h_final, c_final;  ///< out [B][H]  optional
};

/// Its gradient: from those of h, h_final and c_final, and what the forward kept.
struct LstmBackwardLoop {
  RowLayout layout;
  std::int64_t H = 0;
  bool reverse = false;
  const float* weight_hh = nullptr;
  Rows<const float> c0;
  const std::uint8_t* reset = nullptr;
  Rows<const float> grad_h;                      ///< [rows][H]  optional
  Rows<const float> grad_h_final, grad_c_final;  ///< [B][H]  optional
  float* gates = nullptr;    ///< [rows][4 H]  in: i, f, g, o; out: gradients of W x + b
  const float* c = nullptr;  ///< [rows][H]
  float *grad_h0 = nullptr, *grad_c0 = nullptr;  ///< out [B][H]
};

/// Whether all steps run in one kernel, its weights in bfloat16 in a cluster: where H fits, the
/// device has such clusters, and 32 bits count the elements of all rows.
bool lstm_fits_cluster(std::int64_t H, std::int64_t rows, std::int64_t longest_stride);
bool lstm_backward_fits_cluster(std::int64_t H, std::int64_t rows, std::int64_t longest_stride);
/// That kernel. \p fragments: lstm_fragments_bytes(H) of scratch. \pre it fits
void lstm_in_cluster(const LstmLoop& loop, void* fragments, Stream stream);
void lstm_backward_in_cluster(const LstmBackwardLoop& loop, void* fragments, Stream stream);

/// In float, a product and a kernel a step. Of scratch, \p q: [B][4 H], \p carry: h, c [2][B][H].
void lstm_by_steps(const LstmLoop& loop, float* q, float* carry, Stream stream);
/// Of scratch, \p grad_a: [B][4 H], \p carry: gradients of h, c [2][B][H].
void lstm_backward_by_steps(const LstmBackwardLoop& loop, float* grad_a, float* carry,
                            Stream stream);

}  // namespace seqvae::cuda
