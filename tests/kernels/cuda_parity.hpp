// A contract's CUDA kernel against its CPU twins: errors against cpu<double> at most twice those of
// cpu<float>, the same bits under every schedule, on another stream and from a captured graph.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "seqvae/kernels/gaussian.hpp"
#include "tests/kernels/cuda_schedules.hpp"
#include "tests/kernels/matrix.hpp"
#include "tests/support/device_array.hpp"
#include "tests/support/errors.hpp"

namespace seqvae::test {

/// A matrix in device memory that ends with its last element, so that the emulator sees a step
/// beyond it. Between the rows it is NaN.
class DeviceMatrix {
 public:
  DeviceMatrix(std::int64_t rows, std::int64_t D, Placement place, bool broadcast = false)
      : rows_(rows), D_(D), stride_(broadcast ? 0 : D + place.gap), offset_(place.offset) {
    const std::int64_t last = rows == 0 ? 0 : (broadcast ? 0 : rows - 1) * stride_ + D;
    host_.assign(static_cast<std::size_t>(offset_ + last), std::nanf(""));
#if defined(SEQVAE_EMULATED)
    memory_ = std::make_unique<DeviceArray<float>>(host_.size());  // NaN, and known as unwritten
#else
    memory_ = std::make_unique<DeviceArray<float>>(host_);
#endif
  }
  /// Written by the host; else it is an output, and nothing may read it before it is written.
  DeviceMatrix& write(const Matrix<float>& values) {
    for (std::int64_t r = 0; r < (stride_ == 0 ? std::min<std::int64_t>(rows_, 1) : rows_); ++r) {
      for (std::int64_t d = 0; d < D_; ++d) host_[index(r, d)] = values(r, d);
    }
    memory_ = std::make_unique<DeviceArray<float>>(host_);
    return *this;
  }
  /// All NaN again, as an output is before it is written. Must stay until the stream got there.
  void forget(Stream stream) const {
    cuda::copy(memory_->data(), host_.data(), host_.size() * sizeof(float), stream);
  }
  Rows<float> view() const { return {memory_->data() + offset_, stride_}; }
  /// Expects what lies around the rows to be NaN still.
  Matrix<float> read() const {
    std::vector<float> all = memory_->read();
    Matrix<float> values(rows_, D_);
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t d = 0; d < D_; ++d) {
        values(r, d) = std::exchange(all[index(r, d)], std::nanf(""));
      }
    }
    EXPECT_TRUE(std::all_of(all.begin(), all.end(), [](float x) { return std::isnan(x); }))
        << "elements outside the rows were written";
    return values;
  }

 private:
  std::size_t index(std::int64_t r, std::int64_t d) const {
    return static_cast<std::size_t>(offset_ + r * stride_ + d);
  }
  std::int64_t rows_, D_, stride_, offset_;
  std::vector<float> host_;
  std::unique_ptr<DeviceArray<float>> memory_;
};

/// The same bits; NaN like NaN.
inline void expect_same_bits(const Matrix<float>& a, const Matrix<float>& b, const char* what) {
  std::int64_t differ = 0;
  for (std::int64_t r = 0; r < a.rows(); ++r) {
    for (std::int64_t d = 0; d < a.D(); ++d) {
      if (std::isnan(a(r, d)) && std::isnan(b(r, d))) continue;
      differ += std::bit_cast<std::uint32_t>(a(r, d)) != std::bit_cast<std::uint32_t>(b(r, d));
    }
  }
  EXPECT_EQ(differ, 0) << what;
}

/// Errs at most twice as much as plain float; where that was lucky, by one rounding of the largest
/// value. NaN in the oracle: not an output of this call, and to stay unwritten.
inline void expect_no_worse(const Matrix<float>& actual, const Matrix<float>& plain,
                            const Matrix<double>& oracle, std::size_t output) {
  Errors errors;
  for (std::int64_t r = 0; r < oracle.rows(); ++r) {
    for (std::int64_t d = 0; d < oracle.D(); ++d) {
      if (std::isnan(oracle(r, d))) {
        EXPECT_TRUE(std::isnan(actual(r, d))) << "output " << output << ", row " << r;
        continue;
      }
      errors.add(actual(r, d), plain(r, d), oracle(r, d));
    }
  }
  EXPECT_LE(errors.actual,
            2 * errors.plain + errors.largest * std::numeric_limits<float>::epsilon())
      << "output " << output << ", plain float errs by " << errors.plain;
}

/// What a layout and its noise read from memory besides matrices.
struct LayoutData {
  std::vector<std::int32_t> lengths, offsets, origins;  // empty: not given
  std::vector<std::uint32_t> sequence_id;
  std::vector<std::uint64_t> step;
};

/// Pointers to it, on the host or on the device.
struct LayoutPointers {
  const std::int32_t *lengths = nullptr, *offsets = nullptr, *origins = nullptr;
  const std::uint32_t* sequence_id = nullptr;
  const std::uint64_t* step = nullptr;
};

inline LayoutPointers host_pointers(const LayoutData& data) {
  const auto given = [](const auto& v) { return v.empty() ? nullptr : v.data(); };
  return {given(data.lengths), given(data.offsets), given(data.origins), given(data.sequence_id),
          given(data.step)};
}

class DeviceLayout {
 public:
  explicit DeviceLayout(const LayoutData& data)
      : lengths_(data.lengths),
        offsets_(data.offsets),
        origins_(data.origins),
        sequence_id_(data.sequence_id),
        step_(data.step) {}
  LayoutPointers pointers() const {
    return {lengths_.data(), offsets_.data(), origins_.data(), sequence_id_.data(), step_.data()};
  }
  /// Of as many steps and sequences. `data` must stay until the stream got there.
  void write(const LayoutData& data, Stream stream) const {
    const auto copy = [&](const auto& to, const auto& from) {
      cuda::copy(to.data(), from.data(), from.size() * sizeof(from[0]), stream);
    };
    copy(lengths_, data.lengths), copy(offsets_, data.offsets), copy(origins_, data.origins);
    copy(sequence_id_, data.sequence_id), copy(step_, data.step);
  }

 private:
  DeviceArray<std::int32_t> lengths_, offsets_, origins_;
  DeviceArray<std::uint32_t> sequence_id_;
  DeviceArray<std::uint64_t> step_;
};

struct ParityInput {
  Matrix<float> values;
  bool broadcast = false;  ///< its first row serves for all
};
template <class... Matrices>
std::vector<ParityInput> inputs_of(Matrices... values) {
  std::vector<ParityInput> inputs;
  (inputs.push_back({std::move(values)}), ...);
  return inputs;
}
struct ParityOutput {
  std::int64_t rows, D;
};

/// A problem of one contract: `build(Real{}, in, out, layout)` makes its arguments, in(i) and
/// out(i) being the rows of the i-th input and output.
struct Problem {
  std::vector<ParityInput> inputs;
  std::vector<ParityOutput> outputs;
  LayoutData layout;
  Placement place;
};

template <class Real, class Build, class Twin>
std::vector<Matrix<Real>> run_cpu(const Problem& problem, Build build, Twin twin) {
  std::vector<Matrix<Real>> in, out;
  for (const ParityInput& input : problem.inputs) {
    in.emplace_back(input.values.rows(), input.values.D());
    in.back().fill([&](auto r, auto d) { return input.values(r, d); });
  }
  for (const ParityOutput& output : problem.outputs) out.emplace_back(output.rows, output.D);
  const auto input = [&](std::size_t i) -> Rows<const Real> {
    const Rows<Real> view = in[i].view();
    return {view.data, problem.inputs[i].broadcast ? 0 : view.stride};
  };
  const auto output = [&](std::size_t i) { return out[i].view(); };
  twin(build(Real{}, input, output, host_pointers(problem.layout)));
  return out;
}

/// The same steps and sequences without a row, at another step of training.
inline LayoutData without_rows(LayoutData data) {
  std::fill(data.lengths.begin(), data.lengths.end(), 0);
  std::fill(data.offsets.begin(), data.offsets.end(), 0);
  for (std::uint64_t& step : data.step) ++step;
  return data;
}

/// Direct on the default stream, or from a graph captured on a stream of its own: replayed once
/// without a row and then with the problem's.
enum class How { direct, captured };

template <class Build, class Twin>
std::vector<Matrix<float>> run_cuda(const Problem& problem, Build build, Twin twin,
                                    How how = How::direct) {
  std::vector<DeviceMatrix> in, out;
  for (const ParityInput& input : problem.inputs) {
    in.emplace_back(input.values.rows(), input.values.D(), problem.place, input.broadcast)
        .write(input.values);
  }
  for (const ParityOutput& output : problem.outputs) {
    out.emplace_back(output.rows, output.D, problem.place);
  }
  const DeviceLayout layout(how == How::direct ? problem.layout : without_rows(problem.layout));
  const auto args = build(
      float{}, [&](std::size_t i) -> Rows<const float> { return in[i].view(); },
      [&](std::size_t i) { return out[i].view(); }, layout.pointers());
  if (how == How::direct) {
    twin(args, Stream());
    cuda::synchronize(Stream());
  } else {
    const Stream stream = cuda::create_stream();
    {
      cuda::Graph graph(stream, [&](Stream s) { twin(args, s); });
      graph.replay();
      layout.write(problem.layout, stream);
      for (const DeviceMatrix& matrix : out) matrix.forget(stream);
      graph.replay();
      cuda::synchronize(stream);
    }
    cuda::destroy_stream(stream);
  }
  std::vector<Matrix<float>> results;
  for (const DeviceMatrix& matrix : out) results.push_back(matrix.read());
  return results;
}

/// `cpu` is generic over Real, `cuda` takes a stream too.
template <class Build, class Cpu, class Cuda>
void expect_parity(const Problem& problem, Build build, Cpu cpu, Cuda cuda) {
  const auto oracle = run_cpu<double>(problem, build, cpu);
  const auto plain = run_cpu<float>(problem, build, cpu);
  const auto actual = run_cuda(problem, build, cuda);
  for (std::size_t i = 0; i < oracle.size(); ++i) {
    expect_no_worse(actual[i], plain[i], oracle[i], i);
  }
  for_each_schedule([&] {
    const auto again = run_cuda(problem, build, cuda);
    for (std::size_t i = 0; i < actual.size(); ++i) {
      expect_same_bits(again[i], actual[i], "another schedule");
    }
  });
  const auto replayed = run_cuda(problem, build, cuda, How::captured);
  for (std::size_t i = 0; i < actual.size(); ++i) {
    expect_same_bits(replayed[i], actual[i], "replayed from a graph");
  }
}

}  // namespace seqvae::test
