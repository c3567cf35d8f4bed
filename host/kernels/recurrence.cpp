// Checks and sizes of the recurrent sequence contracts, the same rules for gru and lstm.
#include <limits>

#include "host/kernels/check_rows.hpp"
#include "host/kernels/recurrence_memory.hpp"
#include "kernels/recurrence/gru_memory.hpp"
#include "kernels/recurrence/lstm_memory.hpp"

namespace seqvae {
namespace {

template <class Args>
void require_sizes(const Args& a, const char* where) {
  require_layout(a.layout, where);
  require(a.layout.K == 1, where, "layout.K", a.layout.K, "1");
  require(a.D >= 1, where, "D", a.D, ">= 1");
  require(a.H >= 1, where, "H", a.H, ">= 1");
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  require(a.D <= most / 4 / a.H, where, "D", a.D, "<= (2^31 - 1) / (4 H)");
  require(a.H <= most / 4 / a.H, where, "H", a.H, "<= (2^31 - 1) / (4 H)");
  if (a.layout.B > 0) {
    require(a.layout.T <= most / a.layout.B, where, "layout.T", a.layout.T, "<= (2^31 - 1) / B");
  }
}

void require_memory(const void* memory, std::size_t bytes, std::size_t needed, const char* where,
                    const char* argument) {
  if (needed == 0) return;
  require_pointer(memory, where, argument);
  require(reinterpret_cast<std::uintptr_t>(memory) % 64 == 0, where, argument, memory,
          "aligned to 64 bytes");
  require(bytes >= needed, where, fmt::format("{}_bytes", argument), bytes,
          fmt::format(">= {}", needed));
}

// What forward and backward read alike.
template <class Args>
void require_inputs(const Args& a, const char* where) {
  const bool some = a.layout.rows_at_most() > 0;
  require_input(a.x, some, where, "x");
  require_pointer(a.weight_ih, where, "weight_ih");
  require_pointer(a.weight_hh, where, "weight_hh");
  require_optional_input(a.h0, where, "h0");
  if constexpr (kHasCellState<Args>) require_optional_input(a.c0, where, "c0");
}

template <class Args>
void check_forward(const Args& a, const char* where, std::size_t reserve, std::size_t workspace) {
  require_inputs(a, where);
  require_output(a.h, a.layout.rows_at_most(), a.H, where, "h");
  require_optional_output(a.h_final, a.layout.B, a.H, where, "h_final");
  if constexpr (kHasCellState<Args>) {
    require_optional_output(a.c_final, a.layout.B, a.H, where, "c_final");
  }
  if (a.reserve != nullptr) {
    require_memory(a.reserve, a.reserve_bytes, reserve, where, "reserve");
  }
  require_memory(a.workspace, a.workspace_bytes, workspace, where, "workspace");
}

template <class Args>
void check_backward(const Args& a, const char* where, std::size_t reserve, std::size_t workspace) {
  require_inputs(a, where);
  require_input(a.h, a.layout.rows_at_most() > 0, where, "h");
  require_optional_input(a.grad_h, where, "grad_h");
  require_optional_input(a.grad_h_final, where, "grad_h_final");
  require_optional_output(a.grad_x, a.layout.rows_at_most(), a.D, where, "grad_x");
  require_optional_output(a.grad_h0, a.layout.B, a.H, where, "grad_h0");
  if constexpr (kHasCellState<Args>) {
    require_optional_input(a.grad_c_final, where, "grad_c_final");
    require_optional_output(a.grad_c0, a.layout.B, a.H, where, "grad_c0");
  }
  require_memory(a.reserve, a.reserve_bytes, reserve, where, "reserve");
  require_memory(a.workspace, a.workspace_bytes, workspace, where, "workspace");
}

template <class Real, class Args>
std::size_t reserve_bytes(const Args& a, const char* where) {
  require_sizes(a, where);
  Arena arena;
  RecurrenceReserve<Real>().place(a, arena);
  return arena.used();
}

template <class Workspace, class Args>
std::size_t workspace_bytes(const Args& a, const char* where) {
  require_sizes(a, where);
  return Workspace().place(a, nullptr);
}

}  // namespace

template <class Real>
std::size_t gru_reserve_bytes(const GruArgs<Real>& a) {
  return reserve_bytes<Real>(a, "gru");
}
template <class Real>
std::size_t gru_workspace_bytes(const GruArgs<Real>& a) {
  return workspace_bytes<RecurrenceWorkspace<Real>>(a, "gru");
}
template <class Real>
std::size_t gru_backward_workspace_bytes(const GruBackwardArgs<Real>& a) {
  return workspace_bytes<RecurrenceBackwardWorkspace<Real>>(a, "gru_backward");
}
template <class Real>
void check(const GruArgs<Real>& a) {
  check_forward(a, "gru", gru_reserve_bytes(a), gru_workspace_bytes(a));
}
template <class Real>
void check(const GruBackwardArgs<Real>& a) {
  check_backward(a, "gru_backward", reserve_bytes<Real>(a, "gru_backward"),
                 gru_backward_workspace_bytes(a));
}

template <class Real>
std::size_t lstm_reserve_bytes(const LstmArgs<Real>& a) {
  return reserve_bytes<Real>(a, "lstm");
}
template <class Real>
std::size_t lstm_workspace_bytes(const LstmArgs<Real>& a) {
  return workspace_bytes<RecurrenceWorkspace<Real>>(a, "lstm");
}
template <class Real>
std::size_t lstm_backward_workspace_bytes(const LstmBackwardArgs<Real>& a) {
  return workspace_bytes<RecurrenceBackwardWorkspace<Real>>(a, "lstm_backward");
}
template <class Real>
void check(const LstmArgs<Real>& a) {
  check_forward(a, "lstm", lstm_reserve_bytes(a), lstm_workspace_bytes(a));
}
template <class Real>
void check(const LstmBackwardArgs<Real>& a) {
  check_backward(a, "lstm_backward", reserve_bytes<Real>(a, "lstm_backward"),
                 lstm_backward_workspace_bytes(a));
}

template std::size_t gru_reserve_bytes(const GruArgs<float>&);
template std::size_t gru_reserve_bytes(const GruArgs<double>&);
template std::size_t gru_workspace_bytes(const GruArgs<float>&);
template std::size_t gru_workspace_bytes(const GruArgs<double>&);
template std::size_t gru_backward_workspace_bytes(const GruBackwardArgs<float>&);
template std::size_t gru_backward_workspace_bytes(const GruBackwardArgs<double>&);
template void check(const GruArgs<float>&);
template void check(const GruArgs<double>&);
template void check(const GruBackwardArgs<float>&);
template void check(const GruBackwardArgs<double>&);
template std::size_t lstm_reserve_bytes(const LstmArgs<float>&);
template std::size_t lstm_reserve_bytes(const LstmArgs<double>&);
template std::size_t lstm_workspace_bytes(const LstmArgs<float>&);
template std::size_t lstm_workspace_bytes(const LstmArgs<double>&);
template std::size_t lstm_backward_workspace_bytes(const LstmBackwardArgs<float>&);
template std::size_t lstm_backward_workspace_bytes(const LstmBackwardArgs<double>&);
template void check(const LstmArgs<float>&);
template void check(const LstmArgs<double>&);
template void check(const LstmBackwardArgs<float>&);
template void check(const LstmBackwardArgs<double>&);

namespace cuda {

std::size_t gru_reserve_bytes(const GruArgs<float>& a) {
  require_sizes(a, "gru");
  return GruReserve(a.layout, a.H, nullptr).bytes;
}
std::size_t gru_workspace_bytes(const GruArgs<float>& a) {
  require_sizes(a, "gru");
  return GruWorkspace(a, nullptr).bytes;
}
std::size_t gru_backward_workspace_bytes(const GruBackwardArgs<float>& a) {
  require_sizes(a, "gru_backward");
  return GruBackwardWorkspace(a, nullptr).bytes;
}
void check(const GruArgs<float>& a) {
  check_forward(a, "gru", gru_reserve_bytes(a), gru_workspace_bytes(a));
}
void check(const GruBackwardArgs<float>& a) {
  const std::size_t workspace = gru_backward_workspace_bytes(a);
  check_backward(a, "gru_backward", GruReserve(a.layout, a.H, nullptr).bytes, workspace);
}

std::size_t lstm_reserve_bytes(const LstmArgs<float>& a) {
  require_sizes(a, "lstm");
  return LstmReserve(a.layout, a.H, nullptr).bytes;
}
std::size_t lstm_workspace_bytes(const LstmArgs<float>& a) {
  require_sizes(a, "lstm");
  return LstmWorkspace(a, nullptr).bytes;
}
std::size_t lstm_backward_workspace_bytes(const LstmBackwardArgs<float>& a) {
  require_sizes(a, "lstm_backward");
  return LstmBackwardWorkspace(a, nullptr).bytes;
}
void check(const LstmArgs<float>& a) {
  check_forward(a, "lstm", lstm_reserve_bytes(a), lstm_workspace_bytes(a));
}
void check(const LstmBackwardArgs<float>& a) {
  const std::size_t workspace = lstm_backward_workspace_bytes(a);
  check_backward(a, "lstm_backward", LstmReserve(a.layout, a.H, nullptr).bytes, workspace);
}

}  // namespace cuda

}  // namespace seqvae
