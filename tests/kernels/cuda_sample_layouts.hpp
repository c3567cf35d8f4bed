// Row layouts of every kind with the noise of each row: what the CUDA kernels that draw are tried
// on.
#pragma once
#include <fmt/format.h>

#include "tests/kernels/cuda_parity.hpp"

namespace seqvae::test {

inline Matrix<float> normals(std::int64_t rows, std::int64_t D, unsigned seed, double scale = 1) {
  Matrix<float> matrix(rows, D);
  matrix.fill_normal(seed, scale);
  return matrix;
}

enum class Kind { full, padded, packed, packed_part };

struct SampleShape {
  Kind kind;
  std::int64_t T, B, K, D;
  Placement place;
  bool given;  ///< eps is an input, not drawn
};

inline std::string sample_name(const testing::TestParamInfo<SampleShape>& info) {
  const SampleShape& s = info.param;
  const char* kinds[] = {"full", "padded", "packed", "packed_part"};
  return fmt::format("{}_T{}_B{}_K{}_D{}_offset{}{}", kinds[static_cast<int>(s.kind)], s.T, s.B,
                     s.K, s.D, s.place.offset, s.given ? "_given" : "");
}

inline const auto kSampleShapes = testing::Values(
    SampleShape{Kind::full, 1, 1, 1, 1, {}, false}, SampleShape{Kind::full, 3, 2, 1, 31, {}, false},
    SampleShape{Kind::padded, 7, 5, 1, 32, {}, false},
    SampleShape{Kind::padded, 6, 5, 3, 33, {1, 2}, false},
    SampleShape{Kind::padded, 6, 5, 2, 32, {}, true},
    SampleShape{Kind::packed, 7, 5, 1, 32, {0, 4}, false},
    SampleShape{Kind::packed, 9, 4, 3, 5, {}, false},
    SampleShape{Kind::packed_part, 9, 6, 2, 257, {}, false},
    SampleShape{Kind::packed, 5, 6, 1, 2, {}, true},
    SampleShape{Kind::full, 0, 3, 1, 4, {}, false});

/// Lengths fall from T to 0, as a packed layout wants them; origins and ids are arbitrary.
struct SampleSetup {
  LayoutData data;
  std::int64_t T, rows, first = 0;  ///< first: step of a packed part
  NoiseKey key{0x123456789ABCDEFull, 7};
  SampleShape shape;

  explicit SampleSetup(const SampleShape& s) : T(s.T), rows(s.T * s.B * s.K), shape(s) {
    std::vector<std::int32_t> lengths;
    for (std::int64_t b = 0; b < s.B; ++b) {
      lengths.push_back(
          static_cast<std::int32_t>(s.T - b * s.T / std::max<std::int64_t>(s.B - 1, 1)));
      data.sequence_id.push_back(static_cast<std::uint32_t>(1000 - 7 * b));
      data.origins.push_back(static_cast<std::int32_t>(b % 3));
    }
    data.step = {41};
    if (s.kind == Kind::padded) data.lengths = lengths;
    if (s.kind == Kind::packed || s.kind == Kind::packed_part) {
      data.offsets = {0};
      for (std::int64_t t = 0; t < s.T; ++t) {
        const auto active = std::count_if(lengths.begin(), lengths.end(),
                                          [&](std::int32_t length) { return length > t; });
        data.offsets.push_back(data.offsets.back() + static_cast<std::int32_t>(active));
      }
      rows = data.offsets.back() * s.K;
    }
    if (s.kind == Kind::packed_part) first = 2, T = s.T - 4;
  }

  template <class Real>
  NoiseArgs<Real> noise(const LayoutPointers& p, Rows<const Real> eps) const {
    NoiseArgs<Real> noise;
    noise.layout = {T, shape.B, shape.K, p.lengths, p.offsets, 5, p.origins};
    if (first > 0) noise.layout.offsets += first, noise.layout.t0 += first;
    noise.key = key;
    noise.sequence_id = p.sequence_id;
    noise.step = p.step;
    if (shape.given) noise.eps = eps;
    return noise;
  }

  /// Inputs: eps, and as many others; padding among them is NaN.
  Problem problem(std::size_t others, std::size_t outputs) const {
    Problem problem{{}, std::vector<ParityOutput>(outputs, {rows, shape.D}), data, shape.place};
    for (std::size_t i = 0; i <= others; ++i) {
      ParityInput input{normals(rows, shape.D, 29 + static_cast<unsigned>(i))};
      if (!data.lengths.empty()) {
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::int64_t t = r / shape.K / shape.B, b = r / shape.K % shape.B;
          if (t < data.lengths[static_cast<std::size_t>(b)]) continue;
          for (std::int64_t d = 0; d < shape.D; ++d) input.values(r, d) = std::nanf("");
        }
      }
      problem.inputs.push_back(std::move(input));
    }
    return problem;
  }
};

}  // namespace seqvae::test
