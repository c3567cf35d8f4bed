// What the recurrent sequence contracts keep and need: one list of arrays, walked once to count
// bytes and once to place the arrays, so that the two cannot differ.
#pragma once
#include <cstddef>
#include <cstdint>

#include "seqvae/core/arena.hpp"
#include "seqvae/kernels/dense.hpp"
#include "seqvae/kernels/gru.hpp"
#include "seqvae/kernels/lstm.hpp"

namespace seqvae {

/// Gates of a contract's cell, and whether it has a second carry c.
template <class Args>
inline constexpr bool kHasCellState = requires(Args a) {
  a.c0;
};
template <class Args>
inline constexpr std::int64_t kGates = kHasCellState<Args> ? 4 : 3;

template <class Real>
void* take_packed(Arena& arena, std::int64_t N, std::int64_t K) {
  return arena.take<std::byte>(static_cast<std::int64_t>(cpu::PackedWeights<Real>::bytes(N, K)));
}

/// GRU: q_n = U h + b of the gate n. LSTM: c.
template <class Real>
struct RecurrenceReserve {
  Real* gates = nullptr;  // [rows][gates H]
  Real* kept = nullptr;   // [rows][H]

  template <class Args>
  void place(const Args& a, Arena& arena) {
    const std::int64_t rows = a.layout.rows();
    gates = arena.take<Real>(rows * kGates<Args> * a.H);
    kept = arena.take<Real>(rows * a.H);
  }
};

/// The sequences in packed order, where the caller's are not.
template <class Real>
struct PackedCopies {
  std::int32_t* offsets = nullptr;              // [T + 1]
  std::int32_t* order = nullptr;                // [B]  sequence of each packed place
  std::uint8_t* reset = nullptr;                // [rows]
  Real* x = nullptr;                            // [rows][D]
  Real* h = nullptr;                            // [rows][H]
  Real *h0 = nullptr, *c0 = nullptr;            // [B][H]  zeros where none are given
  Real *h_final = nullptr, *c_final = nullptr;  // [B][H]

  template <class Args>
  void place(const Args& a, Arena& arena) {
    const std::int64_t B = a.layout.B, rows = a.layout.rows();
    offsets = arena.take<std::int32_t>(a.layout.T + 1);
    h0 = arena.take<Real>(B * a.H);
    h_final = arena.take<Real>(B * a.H);
    if (kHasCellState<Args>) {
      c0 = arena.take<Real>(B * a.H);
      c_final = arena.take<Real>(B * a.H);
    }
    if (a.layout.lengths == nullptr) return;
    order = arena.take<std::int32_t>(B);
    reset = arena.take<std::uint8_t>(rows);
    x = arena.take<Real>(rows * a.D);
    h = arena.take<Real>(rows * a.H);
  }
};

template <class Real>
struct RecurrenceWorkspace {
  PackedCopies<Real> copies;
  RecurrenceReserve<Real> reserve;                    // where the caller gives none
  void *W = nullptr, *U = nullptr;                    // packed
  Real* q = nullptr;                                  // [B][gates H]  GRU
  Real *h_previous = nullptr, *c_previous = nullptr;  // [B][H]  one step's, where put together

  template <class Args>
  std::size_t place(const Args& a, void* memory) {
    Arena arena(memory);
    const std::int64_t B = a.layout.B, G = kGates<Args> * a.H;
    copies.place(a, arena);
    if (a.reserve == nullptr) reserve.place(a, arena);
    W = take_packed<Real>(arena, G, a.D);
    U = take_packed<Real>(arena, G, a.H);
    if (!kHasCellState<Args>) q = arena.take<Real>(B * G);
    h_previous = arena.take<Real>(B * a.H);
    if (kHasCellState<Args>) c_previous = arena.take<Real>(B * a.H);
    return arena.used();
  }
};

template <class Real>
struct RecurrenceBackwardWorkspace {
  PackedCopies<Real> copies;                            // h_final: the gradient of h_final
  Real *grad_h_rows = nullptr, *grad_x_rows = nullptr;  // [rows][H], [rows][D]  in packed order
  void *W = nullptr, *U = nullptr;                      // packed, transposed
  Real* grad_q = nullptr;                               // [rows][3 H]  GRU
  Real* h_previous = nullptr;                           // [rows][H]
  Real* c_previous = nullptr;                           // [B][H]
  Real *carry_h = nullptr, *carry_c = nullptr;          // [B][H]  gradient of the carry
  Real *grad_h0 = nullptr, *grad_c0 = nullptr;          // [B][H]  in packed order

  template <class Args>
  std::size_t place(const Args& a, void* memory) {
    Arena arena(memory);
    const std::int64_t B = a.layout.B, rows = a.layout.rows(), G = kGates<Args> * a.H;
    copies.place(a, arena);
    if (a.layout.lengths != nullptr) {
      grad_h_rows = arena.take<Real>(rows * a.H);
      grad_x_rows = arena.take<Real>(rows * a.D);
    }
    W = take_packed<Real>(arena, a.D, G);
    U = take_packed<Real>(arena, a.H, G);
    if (!kHasCellState<Args>) grad_q = arena.take<Real>(rows * G);
    h_previous = arena.take<Real>(rows * a.H);
    carry_h = arena.take<Real>(B * a.H);
    grad_h0 = arena.take<Real>(B * a.H);
    if (kHasCellState<Args>) {
      c_previous = arena.take<Real>(B * a.H);
      carry_c = arena.take<Real>(B * a.H);
      grad_c0 = arena.take<Real>(B * a.H);
    }
    return arena.used();
  }
};

}  // namespace seqvae
