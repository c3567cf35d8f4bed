#include "seqvae/kernels/recurrent_cell.hpp"

#include "host/kernels/check_rows.hpp"

namespace seqvae {

template <class Real>
void check(const GruCellArgs<Real>& a) {
  const char* where = "gru_cell";
  require_size(a.rows, where, "rows");
  require_size(a.H, where, "H");
  const bool some = a.rows > 0 && a.H > 0;
  require_input(a.a, some, where, "a");
  require_input(a.q, some, where, "q");
  require_input(a.h, some, where, "h");
  require_output(a.h_next, a.rows, a.H, where, "h_next");
  require_optional_output(a.gates, a.rows, 3 * a.H, where, "gates");
}

template <class Real>
void check(const GruCellBackwardArgs<Real>& a) {
  const char* where = "gru_cell_backward";
  require_size(a.rows, where, "rows");
  require_size(a.H, where, "H");
  const bool some = a.rows > 0 && a.H > 0;
  require_input(a.gates, some, where, "gates");
  require_input(a.q, some, where, "q");
  require_input(a.h, some, where, "h");
  require_input(a.grad_h_next, some, where, "grad_h_next");
  require_output(a.grad_a, a.rows, 3 * a.H, where, "grad_a");
  require_output(a.grad_q, a.rows, 3 * a.H, where, "grad_q");
  require_output(a.grad_h, a.rows, a.H, where, "grad_h");
}

template <class Real>
void check(const LstmCellArgs<Real>& a) {
  const char* where = "lstm_cell";
  require_size(a.rows, where, "rows");
  require_size(a.H, where, "H");
  const bool some = a.rows > 0 && a.H > 0;
  require_input(a.a, some, where, "a");
  require_input(a.c, some, where, "c");
  require_output(a.h_next, a.rows, a.H, where, "h_next");
  require_output(a.c_next, a.rows, a.H, where, "c_next");
  require_optional_output(a.gates, a.rows, 4 * a.H, where, "gates");
}

template <class Real>
void check(const LstmCellBackwardArgs<Real>& a) {
  const char* where = "lstm_cell_backward";
  require_size(a.rows, where, "rows");
  require_size(a.H, where, "H");
  const bool some = a.rows > 0 && a.H > 0;
  require_input(a.gates, some, where, "gates");
  require_input(a.c, some, where, "c");
  require_input(a.c_next, some, where, "c_next");
  require_optional_input(a.grad_h_next, where, "grad_h_next");
  require_optional_input(a.grad_c_next, where, "grad_c_next");
  require_output(a.grad_a, a.rows, 4 * a.H, where, "grad_a");
  require_output(a.grad_c, a.rows, a.H, where, "grad_c");
}

template void check(const GruCellArgs<float>&);
template void check(const GruCellArgs<double>&);
template void check(const GruCellBackwardArgs<float>&);
template void check(const GruCellBackwardArgs<double>&);
template void check(const LstmCellArgs<float>&);
template void check(const LstmCellArgs<double>&);
template void check(const LstmCellBackwardArgs<float>&);
template void check(const LstmCellBackwardArgs<double>&);

}  // namespace seqvae
