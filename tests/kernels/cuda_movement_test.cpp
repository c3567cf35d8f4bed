// Moves of rows and sums over particles on CUDA against their CPU twins, and from a captured graph
// that meets other offsets in the same memory.
#include "tests/kernels/cuda_sample_layouts.hpp"
#include "tests/kernels/movement_layouts.hpp"

namespace seqvae::test {
namespace {

bool may_start(Move move) {
  return move == Move::from_step_before || move == Move::from_step_after;
}

/// x, then start; both may be one row for all.
Problem problem_of(Move move, const RaggedBatch& batch, std::int64_t D, Placement place,
                   bool shared = false) {
  Problem problem{inputs_of(normals(row_count(rows_of_x(move), batch, false), D, 3),
                            normals(batch.B() * batch.K, D, 4)),
                  {{row_count(rows_of_y(move), batch, true), D}},
                  {},
                  place};
  for (ParityInput& input : problem.inputs) {
    input.broadcast = shared && input.values.rows() > 0;
  }
  problem.layout.offsets = batch.offsets();
  problem.layout.origins.assign(batch.lengths.size(), 7);  // times do not matter
  return problem;
}

auto build_move(Move move, const RaggedBatch& batch, std::int64_t D, bool start) {
  return [=](auto real, auto in, auto out, const LayoutPointers& p) {
    using Real = decltype(real);
    MoveRowsArgs<Real> a{move, batch.layout(p.offsets), D, in(0), {}, out(0)};
    a.layout.t0 = 5, a.layout.origins = p.origins;
    if (start) a.start = in(1);
    return a;
  };
}

const auto kMoveOnCpu = [](const auto& a) { cpu::move_rows(a); };

/// Errors, bits, schedules and graphs; to the bit what the CPU makes.
template <class Build, class Cpu, class Cuda>
void expect_bits_of_the_cpu(const Problem& problem, Build build, Cpu cpu, Cuda cuda) {
  expect_parity(problem, build, cpu, cuda);
  expect_same_bits(run_cuda(problem, build, cuda)[0], run_cpu<float>(problem, build, cpu)[0],
                   "the CPU's");
}

class CudaMoveRows : public testing::TestWithParam<Move> {};
INSTANTIATE_TEST_SUITE_P(Moves, CudaMoveRows, testing::ValuesIn(kMoves));

TEST_P(CudaMoveRows, HasItsParity) {
  const Move move = GetParam();
  for (const RaggedBatch& batch : ragged_batches()) {
    SCOPED_TRACE(batch.name());
    for (const bool start : {false, true}) {
      if (start && !may_start(move)) continue;
      expect_bits_of_the_cpu(problem_of(move, batch, 5, {1, 2}), build_move(move, batch, 5, start),
                             kMoveOnCpu, cuda::move_rows);
    }
  }
}

TEST_P(CudaMoveRows, HasItsParityAtEachWidth) {
  const Move move = GetParam();
  const RaggedBatch batch{{4, 3, 1, 0}, 4, 3, 0, 5};
  for (const std::int64_t D : {0, 1, 3, 4, 33, 140}) {
    SCOPED_TRACE(D);
    for (const Placement place : {Placement{}, Placement{0, 4}, Placement{1, 0}}) {
      expect_bits_of_the_cpu(problem_of(move, batch, D, place),
                             build_move(move, batch, D, may_start(move)), kMoveOnCpu,
                             cuda::move_rows);
    }
    expect_bits_of_the_cpu(problem_of(move, batch, D, {}, true),
                           build_move(move, batch, D, may_start(move)), kMoveOnCpu,
                           cuda::move_rows);
  }
}

TEST_P(CudaMoveRows, ReplayedGoesByTheOffsetsOfThatMoment) {
  const Move move = GetParam();
  constexpr std::int64_t kD = 6, kSteps = 5, kParticles = 2, kCapacity = 44;
  // Of one size, but of other lengths: what a captured step meets from batch to batch.
  const std::vector<std::int32_t> lengths[] = {
      {5, 3, 3, 1}, {5, 5, 5, 5}, {2, 1, 0, 0}, {0, 0, 0, 0}, {4, 4, 1, 1}};
  const auto batch_of = [&](const std::vector<std::int32_t>& of) {
    RaggedBatch batch{of, kSteps, kParticles};
    batch.spare = kCapacity - batch.rows();
    return batch;
  };
  // x has rows for the longest of them, y rows to the capacity.
  const RaggedBatch most = batch_of(lengths[1]);
  const Matrix<float> x = normals(row_count(rows_of_x(move), most, false), kD, 3);
  const Matrix<float> start = normals(4 * kParticles, kD, 4);
  DeviceMatrix device_x(x.rows(), kD, {}), device_start(start.rows(), kD, {});
  device_x.write(x), device_start.write(start);
  const std::int64_t rows_of = row_count(rows_of_y(move), most, true);
  const DeviceMatrix device_y(rows_of, kD, {0, 2});
  const DeviceArray<std::int32_t> offsets(kSteps + 1);

  MoveRowsArgs<float> a{move,           most.layout(offsets.data()), kD, device_x.view(), {},
                        device_y.view()};
  if (may_start(move)) a.start = device_start.view();
  const Stream stream = cuda::create_stream();
  {
    cuda::Graph graph(stream, [&](Stream s) { cuda::move_rows(a, s); });
    for (const auto& of : lengths) {
      const RaggedBatch batch = batch_of(of);
      SCOPED_TRACE(batch.name());
      const std::vector<std::int32_t> host_offsets = batch.offsets();
      cuda::copy(offsets.data(), host_offsets.data(), host_offsets.size() * sizeof(std::int32_t),
                 stream);
      graph.replay();
      cuda::synchronize(stream);
      Matrix<float> y(rows_of, kD);
      MoveRowsArgs<float> on_cpu{move, batch.layout(host_offsets.data()), kD, x, {}, y};
      if (may_start(move)) on_cpu.start = start;
      cpu::move_rows(on_cpu);
      expect_same_bits(device_y.read(), y, "replayed with other offsets");
    }
  }
  cuda::destroy_stream(stream);
}

TEST(CudaMoveRows, AsksTheAlignmentOfEachMatrix) {
  constexpr std::int64_t kD = 8;
  const RaggedBatch batch{{3, 2, 1}, 3, 1};
  const std::vector<std::int32_t> host_offsets = batch.offsets();
  const DeviceArray<std::int32_t> offsets(host_offsets);
  const Matrix<float> x = normals(batch.rows(), kD, 3), start = normals(3, kD, 4);
  Matrix<float> expected(batch.rows(), kD);
  cpu::move_rows<float>(
      {Move::from_step_before, batch.layout(host_offsets.data()), kD, x, start, expected});
  for (const int misaligned : {0, 1, 2, 3}) {  // 3: none
    const auto place = [&](int matrix) { return Placement{matrix == misaligned ? 1 : 0, 0}; };
    DeviceMatrix device_x(x.rows(), kD, place(0)), device_start(3, kD, place(1));
    device_x.write(x), device_start.write(start);
    const DeviceMatrix y(x.rows(), kD, place(2));
    cuda::move_rows({Move::from_step_before, batch.layout(offsets.data()), kD, device_x.view(),
                     device_start.view(), y.view()},
                    Stream());
    expect_same_bits(y.read(), expected, "a matrix misaligned");
  }
}

TEST(CudaMoveRows, GivesParticlesToAPaddedLayoutToo) {
  for (const std::int64_t capacity : {0, 36, 40}) {
    for (const bool ragged : {false, true}) {
      constexpr std::int64_t kD = 5;
      Problem problem{
          inputs_of(normals(12, kD, 3)), {{std::max<std::int64_t>(capacity, 36), kD}}, {}, {1, 2}};
      if (ragged) problem.layout.lengths = {3, 0, 7, -1};
      const auto build = [&](auto real, auto in, auto out, const LayoutPointers& p) {
        using Real = decltype(real);
        RowLayout layout;
        layout.T = 3, layout.B = 4, layout.K = 3, layout.lengths = p.lengths;
        layout.capacity = capacity;
        return MoveRowsArgs<Real>{Move::to_particles, layout, kD, in(0), {}, out(0)};
      };
      expect_bits_of_the_cpu(problem, build, kMoveOnCpu, cuda::move_rows);
    }
  }
  RowLayout none;  // no sequence, and room for one
  none.T = 3, none.capacity = 2;
  const DeviceMatrix y(2, 3, {});
  cuda::move_rows({Move::to_particles, none, 3, {}, {}, y.view()}, Stream());
  const Matrix<float> zeros = y.read();
  for (std::int64_t d = 0; d < 3; ++d) EXPECT_EQ(zeros(1, d), 0.0f);
}

TEST(CudaSumOverParticles, HasItsParity) {
  for (const std::int64_t rows : {0, 1, 19}) {
    for (const std::int64_t K : {1, 3, 32}) {
      for (const std::int64_t D : {0, 1, 4, 33, 140}) {
        SCOPED_TRACE(fmt::format("rows {}, K {}, D {}", rows, K, D));
        for (const Placement place : {Placement{}, Placement{1, 2}}) {
          const Problem problem{inputs_of(normals(rows * K, D, 3)), {{rows, D}}, {}, place};
          const auto build = [&](auto real, auto in, auto out, auto) {
            using Real = decltype(real);
            return SumOverParticlesArgs<Real>{rows, K, D, in(0), out(0)};
          };
          expect_bits_of_the_cpu(
              problem, build, [](const auto& a) { cpu::sum_over_particles(a); },
              cuda::sum_over_particles);
        }
      }
    }
  }
}

}  // namespace
}  // namespace seqvae::test
