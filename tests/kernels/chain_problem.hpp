// A chain that has a stage of nearly every kind: a gated recurrence with a head and a draw, and the
// mixture, choice and gradients that a backward loop has.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "seqvae/kernels/chain.hpp"

namespace seqvae::test {

struct ChainShape {
  std::int64_t T, rows, H, D;
  std::int64_t time = 1;
  std::int64_t K = 1;   ///< rows of a sequence
  bool ragged = false;  ///< sequences end, the last has no step, and matrices are packed
};

/// Memory of a chain by name, on the host or a device, and the table over it. Matrices outside of
/// the slots: `x` [T][rows][3 H] is read, `h_all` [T][rows][H] and `z_all` [T][rows][D] are
/// written.
template <class Real>
class ChainProblem {
 public:
  explicit ChainProblem(const ChainShape& shape) : s(shape) {
    auto wave = [n = 0](double scale) mutable {
      ++n;
      return static_cast<Real>(scale * std::sin(1.7 * n + 0.3 * std::cos(0.9 * n)));
    };
    const auto fill = [&](std::int64_t count, double scale) {
      std::vector<Real> values(static_cast<std::size_t>(count));
      for (Real& v : values) v = wave(scale);
      return values;
    };
    W = fill(3 * s.H * s.H, 0.4), bias = fill(3 * s.H, 0.3), U = fill(3 * s.H * s.H, 0.3);
    V = fill(s.H * 2 * s.D, 0.5), x = fill(s.T * s.rows * 3 * s.H, 1), h0 = fill(s.rows * s.H, 0.8);
    zeros.assign(1, Real{0});
    goes_on = fill(s.T * s.rows, 1);
    for (Real& v : goes_on) v = v > 0 ? Real{1} : Real{0};
    const std::int64_t B = s.rows / s.K;
    const auto length = [&](std::int64_t b) {
      return s.T - b * s.T / std::max<std::int64_t>(B - 1, 1);
    };
    offsets = {0};
    for (std::int64_t t = 0; t < s.T; ++t) {
      std::int32_t active = 0;
      for (std::int64_t b = 0; b < B; ++b) {
        active += length(b) > t;
        for (std::int64_t k = 0; s.ragged && k < s.K && length(b) <= t + 1; ++k) {
          goes_on[static_cast<std::size_t>(t * s.rows + b * s.K + k)] = 0;  // begins in reverse
        }
      }
      offsets.push_back(offsets.back() + active);
    }
    for (std::int64_t b = 0; b < B; ++b) {
      ids.push_back(static_cast<std::uint32_t>(5 + 3 * b));
      origins.push_back(static_cast<std::int32_t>(b % 4));
    }
  }

  /// Where all of it lies for the one who runs it.
  struct Pointers {
    const Real *W, *bias, *U, *V, *x, *h0, *zeros, *goes_on;
    const std::uint32_t* ids;
    const std::int32_t *origins, *offsets;
    const std::uint64_t* step;
    Real *h_all, *z_all;
    const cpu::PackedWeights<Real>*packed_W = nullptr, *packed_U = nullptr, *packed_V = nullptr;
  };

  std::vector<ChainStage<Real>> table(const Pointers& p, ChainArgs<Real>& args) {
    columns_ = 0;
    const std::int64_t H = s.H, D = s.D, rows = s.rows;
    const auto slot = [&](std::int64_t width) {
      const std::int64_t begin = columns_;
      columns_ += (width + 3) / 4 * 4;
      return begin;
    };
    const std::int64_t h = slot(H), q = slot(3 * H), a = slot(3 * H), cell = slot(4 * H),
                       raw = slot(2 * D), logvar = slot(D), z = slot(D), mix = slot(D),
                       back = slot(7 * H), kept = slot(H);
    slots_.assign(static_cast<std::size_t>(columns_), Real{0});
    const auto at = [&](std::int64_t column) {
      return Rows<Real>(slots_.data() + column, columns_);
    };
    const auto starts = [&](std::int64_t) {
      return MultiplyAddArgs<Real>{.rows = rows, .D = H, .a = {p.h0, H}, .y = at(h)};
    };
    const auto carries = [&](std::int64_t t) {  // the new state, or zeros where it begins anew
      return SelectArgs<Real>{rows, H, true, {p.goes_on + t * rows, 1}, at(cell), {}, at(h)};
    };
    const std::int64_t first = s.time > 0 ? 0 : s.T - 1;
    std::vector<ChainStage<Real>> all;
    const auto add = [&](auto made, std::int64_t t) {
      ChainFrame<Real> frame{slots_.data(), columns_};
      if (s.ragged) frame.B = rows / s.K, frame.K = s.K;
      frame.t = t, frame.time = s.time, frame.fixed = p.goes_on, frame.fixed_count = s.T * rows;
      all.push_back(chain_stage(made(t), made(t + s.time), frame));
    };
    add(starts, first), add(carries, first + s.time);
    const auto add_stage = [&](auto made) { add(made, first); };
    add_stage([&](std::int64_t) {
      return DenseArgs<Real>{rows, p.packed_W,           at(h), p.bias,
                             {},   Activation::identity, at(q), {p.W, H, 3 * H, H, false}};
    });
    add_stage([&](std::int64_t t) {
      return DenseArgs<Real>{rows,
                             p.packed_U,
                             at(h),
                             nullptr,
                             {p.x + t * rows * 3 * H, 3 * H},
                             Activation::tanh,
                             at(a),
                             {p.U, H, 3 * H, H, false}};
    });
    add_stage([&](std::int64_t) {
      return GruCellArgs<Real>{rows, H, at(a), at(q), at(h), at(cell), at(cell + H)};
    });
    add_stage([&](std::int64_t) {
      return DenseArgs<Real>{rows, p.packed_V,           at(cell), nullptr,
                             {},   Activation::identity, at(raw),  {p.V, 2 * D, 2 * D, H, true}};
    });
    add_stage([&](std::int64_t) {
      return GaussianHeadArgs<Real>{
          ScaleMap::softplus_std, Real(0.1), Real(0.01), rows, D, at(raw + D), at(logvar)};
    });
    add_stage([&](std::int64_t t) {
      GaussianSampleArgs<Real> draw;
      draw.D = D, draw.mu = at(raw), draw.logvar = at(logvar), draw.z = at(z);
      RowLayout& layout = draw.noise.layout;
      layout.T = 1, layout.B = rows / s.K, layout.K = s.K, layout.t0 = t,
      layout.origins = p.origins;
      draw.noise.key = {99, 3}, draw.noise.sequence_id = p.ids, draw.noise.step = p.step;
      return draw;
    });
    add_stage([&](std::int64_t) {
      return ActivationArgs<Real>{Activation::sigmoid, rows, D, at(z), at(mix)};
    });
    add_stage([&](std::int64_t) {
      return GatedMixArgs<Real>{rows, D, at(mix), at(raw), at(z), at(mix)};
    });
    add_stage([&](std::int64_t) {
      return GruCellBackwardArgs<Real>{rows,  H,        at(cell + H),     at(q),           at(h),
                                       at(h), at(back), at(back + 3 * H), at(back + 6 * H)};
    });
    add_stage([&](std::int64_t) {
      return MultiplyAddArgs<Real>{rows, H, 1, Real(0.5), at(cell), {}, at(back + 6 * H), at(kept)};
    });
    add_stage([&](std::int64_t t) {
      return MultiplyAddArgs<Real>{
          .rows = rows, .D = H, .a = at(kept), .y = {p.h_all + t * rows * H, H}};
    });
    add_stage([&](std::int64_t t) {
      return MultiplyAddArgs<Real>{rows, D, 1, 1, at(z), {}, at(mix), {p.z_all + t * rows * D, D}};
    });
    args = {};
    args.T = s.T, args.rows = rows, args.columns = columns_, args.time = s.time;
    args.K = s.K;
    if (s.ragged) args.offsets = p.offsets, args.capacity = s.T * s.rows;
    args.starts = args.carries = 1, args.stages = static_cast<std::int64_t>(all.size()) - 2;
    arrange_chain(all.data(), args);
    return all;
  }

  const ChainShape s;
  std::vector<Real> W, bias, U, V, x, h0, zeros, goes_on;
  std::vector<std::uint32_t> ids;
  std::vector<std::int32_t> origins, offsets;
  std::uint64_t step = 7;

 private:
  std::int64_t columns_ = 0;
  std::vector<Real> slots_;
};

/// What the CPU's twin writes: h_all, then z_all.
template <class Real>
std::vector<Real> run_on_cpu(const ChainShape& shape) {
  ChainProblem<Real> problem(shape);
  const ChainShape& s = shape;
  cpu::PackedWeights<Real> packed_W(3 * s.H, s.H), packed_U(3 * s.H, s.H), packed_V(2 * s.D, s.H);
  packed_W.pack(problem.W.data(), s.H, false), packed_U.pack(problem.U.data(), s.H, false);
  packed_V.pack(problem.V.data(), 2 * s.D, true);
  std::vector<Real> out(static_cast<std::size_t>(s.T * s.rows * (s.H + s.D)), Real(std::nan("")));
  ChainArgs<Real> args;
  const auto table = problem.table(
      {problem.W.data(), problem.bias.data(), problem.U.data(), problem.V.data(), problem.x.data(),
       problem.h0.data(), problem.zeros.data(), problem.goes_on.data(), problem.ids.data(),
       problem.origins.data(), problem.offsets.data(), &problem.step, out.data(),
       out.data() + s.T * s.rows * s.H, &packed_W, &packed_U, &packed_V},
      args);
  std::vector<Real> workspace(cpu::chain_workspace_bytes(args) / sizeof(Real));
  args.table = table.data(), args.workspace = workspace.data();
  args.workspace_bytes = workspace.size() * sizeof(Real);
  cpu::chain(args);
  return out;
}

}  // namespace seqvae::test
