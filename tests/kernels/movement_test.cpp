// Rows moved, against the header's words written out place by place: every move over ragged
// batches, with rows that may not be read left NaN; and sums over particles written out.
#include "seqvae/kernels/movement.hpp"

#include <gmock/gmock.h>

#include "tests/kernels/matrix.hpp"
#include "tests/kernels/movement_layouts.hpp"

namespace seqvae::test {
namespace {

/// Tells every element apart, and from zero.
double value_of(std::int64_t r, std::int64_t d) { return 1.0 + 64.0 * r + d; }

struct MoveSetting {
  std::int64_t D;
  Placement place;
  bool start = false;
  bool shared = false;  ///< one row of x, and one of start, serves for all
};

/// A matrix that holds numbers in those of its rows alone that may be read.
template <class Real>
void write_row(Matrix<Real>& matrix, std::int64_t row, double sign) {
  for (std::int64_t d = 0; d < matrix.D(); ++d) {
    matrix(row, d) = static_cast<Real>(sign * value_of(row, d));
  }
}

template <class Real>
Rows<const Real> view_of(const Matrix<Real>& matrix, bool shared) {
  return {matrix.view().data, shared ? 0 : matrix.view().stride};
}

template <class Real>
void expect_moved(const MoveRowsArgs<Real>& a, const std::vector<ExpectedRow>& expected,
                  const Matrix<Real>& y, const MoveSetting& s) {
  std::vector<bool> written(static_cast<std::size_t>(y.rows()));
  for (const ExpectedRow& row : expected) {
    written[static_cast<std::size_t>(row.y)] = true;
    for (std::int64_t d = 0; d < s.D; ++d) {
      double value = 0;
      if (row.x) value = value_of(s.shared ? 0 : *row.x, d);
      if (row.start && s.start) value = -value_of(s.shared ? 0 : *row.start, d);
      ASSERT_EQ(y(row.y, d), value)
          << "row " << row.y << ", column " << d << " of move " << static_cast<int>(a.move);
    }
  }
  for (std::int64_t r = 0; r < y.rows(); ++r) {
    if (written[static_cast<std::size_t>(r)]) continue;
    for (std::int64_t d = 0; d < s.D; ++d) {
      ASSERT_TRUE(std::isnan(y(r, d))) << "row " << r << " is another call's";
    }
  }
}

template <class Real>
void expect_move(Move move, const RaggedBatch& batch, const MoveSetting& s) {
  const std::vector<ExpectedRow> expected = expected_rows(move, batch);
  Matrix<Real> x(s.shared ? 1 : row_count(rows_of_x(move), batch, true), s.D, s.place);
  Matrix<Real> start(s.shared ? 1 : batch.B() * batch.K, s.D, s.place);
  Matrix<Real> y(row_count(rows_of_y(move), batch, true), s.D, {s.place.gap, s.place.offset});
  for (const ExpectedRow& row : expected) {
    if (row.x) write_row(x, s.shared ? 0 : *row.x, 1);
    if (row.start) write_row(start, s.shared ? 0 : *row.start, -1);
  }
  const std::vector<std::int32_t> offsets = batch.offsets();
  MoveRowsArgs<Real> a;
  a.move = move, a.layout = batch.layout(offsets.data()), a.D = s.D;
  a.layout.t0 = 1000;  // times do not matter
  a.x = view_of(x, s.shared), a.y = y;
  if (s.start) a.start = view_of(start, s.shared);
  cpu::move_rows(a);
  expect_moved(a, expected, y, s);
  y.expect_surroundings_untouched();
}

template <class Real>
void expect_all_moves() {
  for (const Move move : kMoves) {
    const bool may_start = move == Move::from_step_before || move == Move::from_step_after;
    for (const RaggedBatch& batch : ragged_batches()) {
      SCOPED_TRACE(batch.name());
      for (const std::int64_t D : {0, 1, 3, 4, 33}) {
        for (const Placement place : {Placement{}, Placement{1, 2}}) {
          for (const bool start : {false, true}) {
            if (start && !may_start) continue;
            expect_move<Real>(move, batch, {D, place, start, false});
            expect_move<Real>(move, batch, {D, place, start, true});
            if (testing::Test::HasFatalFailure()) return;
          }
        }
      }
    }
  }
}
TEST(MoveRows, PutsEachRowWhereTheHeaderSaysInFloat) { expect_all_moves<float>(); }
TEST(MoveRows, PutsEachRowWhereTheHeaderSaysInDouble) { expect_all_moves<double>(); }

template <class Real>
void expect_padded_particles(const std::vector<std::int32_t>& lengths, std::int64_t capacity) {
  constexpr std::int64_t T = 3, B = 4, K = 3, D = 5;
  Matrix<Real> x(T * B, D, {1, 2}), y(std::max(capacity, T * B * K), D, {0, 3});
  const auto valid = [&](std::int64_t row) {
    return lengths.empty() || row / B < lengths[static_cast<std::size_t>(row % B)];
  };
  for (std::int64_t row = 0; row < T * B; ++row) {
    if (valid(row)) write_row(x, row, 1);
  }
  RowLayout layout;
  layout.T = T, layout.B = B, layout.K = K, layout.capacity = capacity;
  if (!lengths.empty()) layout.lengths = lengths.data();
  cpu::move_rows<Real>({Move::to_particles, layout, D, x, {}, y});
  for (std::int64_t r = 0; r < y.rows(); ++r) {
    for (std::int64_t d = 0; d < D; ++d) {
      const bool some = r < T * B * K && valid(r / K);
      EXPECT_EQ(y(r, d), some ? value_of(r / K, d) : 0.0) << "row " << r;
    }
  }
  y.expect_surroundings_untouched();
}
TEST(MoveRows, GivesParticlesToAPaddedLayoutToo) {
  for (const std::int64_t capacity : {0, 36, 40}) {
    expect_padded_particles<float>({}, capacity);
    expect_padded_particles<float>({3, 0, 7, -1}, capacity);  // clamped to 0..T
    expect_padded_particles<double>({1, 3, 0, 2}, capacity);
  }
  RowLayout none;  // no sequence, and room for one
  none.T = 3, none.capacity = 2;
  Matrix<float> y(2, 3);
  cpu::move_rows<float>({Move::to_particles, none, 3, {}, {}, y});
  for (std::int64_t d = 0; d < 3; ++d) EXPECT_EQ(y(1, d), 0.0f);
}

TEST(MoveRows, KeepsTheBitsOfWhatIsNoNumber) {
  const std::vector<std::int32_t> offsets = {0, 1};
  RowLayout layout;
  layout.T = layout.B = 1, layout.offsets = offsets.data();
  Matrix<float> x(1, 3), y(1, 3);
  const float inf = std::numeric_limits<float>::infinity();
  x(0, 0) = -inf, x(0, 1) = std::nanf(""), x(0, 2) = -0.0f;
  cpu::move_rows<float>({Move::to_steps, layout, 3, x, {}, y});
  EXPECT_EQ(y(0, 0), -inf);
  EXPECT_TRUE(std::isnan(y(0, 1)));
  EXPECT_TRUE(std::signbit(y(0, 2)));
}

template <class Real>
void expect_sums(std::int64_t rows, std::int64_t K, std::int64_t D, Placement place, bool shared) {
  Matrix<Real> x(shared ? 1 : rows * K, D, place), y(rows, D, {place.gap, place.offset});
  x.fill([](auto r, auto d) { return std::cos(3.0 * r + d) * std::pow(10.0, (r + d) % 5); });
  cpu::sum_over_particles<Real>({rows, K, D, view_of(x, shared), y});
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t d = 0; d < D; ++d) {
      double sum = 0;
      for (std::int64_t k = 0; k < K; ++k) sum += x(shared ? 0 : r * K + k, d);
      ASSERT_EQ(y(r, d), static_cast<Real>(sum)) << "row " << r << ", column " << d;
    }
  }
  y.expect_surroundings_untouched();
}
TEST(SumOverParticles, AddsInOrderAndInDouble) {
  for (const std::int64_t rows : {0, 1, 5}) {
    for (const std::int64_t K : {1, 3, 32}) {
      for (const std::int64_t D : {0, 1, 3, 4, 33, 257, 700}) {
        for (const bool shared : {false, true}) {
          SCOPED_TRACE(fmt::format("rows {}, K {}, D {}, shared {}", rows, K, D, shared));
          expect_sums<float>(rows, K, D, {}, shared);
          expect_sums<float>(rows, K, D, {1, 2}, shared);
          expect_sums<double>(rows, K, D, {1, 2}, shared);
        }
      }
    }
  }
}

}  // namespace
}  // namespace seqvae::test
