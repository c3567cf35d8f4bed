#include "seqvae/kernels/movement.hpp"

#include "host/kernels/check_rows.hpp"
#include "kernels/movement/extent.hpp"

namespace seqvae {

template <class Real>
void check(const MoveRowsArgs<Real>& a) {
  const char* where = "move_rows";
  const RowLayout& layout = a.layout;
  const int move = static_cast<int>(a.move);
  if (move < 0 || move > static_cast<int>(Move::to_packed)) {
    require(false, where, "move", move, "a Move");
  }
  require_layout(layout, where);
  require_size(layout.capacity, where, "layout.capacity");
  require_size(a.D, where, "D");
  const std::int64_t places = layout.T * layout.B * layout.K;
  if (a.move != Move::to_particles) {
    require_pointer(layout.offsets, where, "layout.offsets");
  } else if (layout.offsets == nullptr && layout.capacity > 0 && layout.capacity < places) {
    require(false, where, "layout.capacity", layout.capacity, "0 or at least T B K");
  }
  if (a.start && a.move != Move::from_step_before && a.move != Move::from_step_after) {
    throw InvalidArgument(std::string(where) +
                          ": start is given, must be left out unless move is from_step_before or "
                          "from_step_after");
  }
  require_input(a.x, places > 0 && a.D > 0, where, "x");
  require_optional_input(a.start, where, "start");
  require_output(a.y, moved_rows_at_most(a.move, layout), a.D, where, "y");
}

template <class Real>
void check(const SumOverParticlesArgs<Real>& a) {
  const char* where = "sum_over_particles";
  require_size(a.rows, where, "rows");
  if (a.K < 1 || a.K > std::numeric_limits<std::int32_t>::max()) {
    require(false, where, "K", a.K, "from 1 to 2^31 - 1");
  }
  require_size(a.D, where, "D");
  require_input(a.x, a.rows > 0 && a.D > 0, where, "x");
  require_output(a.y, a.rows, a.D, where, "y");
}

template void check(const MoveRowsArgs<float>&);
template void check(const MoveRowsArgs<double>&);
template void check(const SumOverParticlesArgs<float>&);
template void check(const SumOverParticlesArgs<double>&);

}  // namespace seqvae
