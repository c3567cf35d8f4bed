// Products of small matrices, one a row, on CUDA against their CPU twins.
#include "seqvae/kernels/arithmetic.hpp"
#include "tests/kernels/cuda_parity.hpp"

namespace seqvae::test {
namespace {

TEST(CudaMatrixProduct, HasItsParity) {
  constexpr std::int64_t kShapes[][3] = {{1, 1, 1}, {3, 2, 5}, {4, 4, 4}, {7, 9, 6}, {2, 0, 3}};
  for (const auto& [n, k, m] : kShapes) {
    for (const std::int64_t rows : {0, 1, 37}) {
      for (const int turned : {0, 1, 2, 3}) {
        for (const bool shared : {false, true}) {
          Problem problem{{}, {{rows, n * m}}, {}, {1, 2}};
          for (const std::int64_t size : {n * k, k * m}) {
            Matrix<float> values(rows, size);
            values.fill_normal(11 + static_cast<unsigned>(size));
            problem.inputs.push_back({std::move(values), shared && problem.inputs.empty()});
          }
          const auto build = [&, n = n, k = k, m = m](auto real, auto in, auto out, auto) {
            using Real = decltype(real);
            return MatrixProductArgs<Real>{
                rows, {n, k, m, (turned & 1) != 0, (turned & 2) != 0}, in(0), in(1), out(0)};
          };
          expect_parity(
              problem, build, [](const auto& a) { cpu::matrix_product(a); }, cuda::matrix_product);
        }
      }
    }
  }
}

}  // namespace
}  // namespace seqvae::test
