// Checks of the Kalman contracts: sizes, then the model's arrays, then the data, then the rest.
#include "seqvae/kernels/kalman.hpp"

#include <algorithm>
#include <type_traits>

#include "host/kernels/check_rows.hpp"
#include "kernels/kalman/gradient_sums.hpp"

namespace seqvae {
namespace {

constexpr std::int64_t kMostDimensions = 4096;  // n^2 and m^2 doubles fit a workspace

template <class Real>
void require_array(const StepArray<Real>& array, bool needed, std::int64_t entries,
                   const char* where, const char* argument) {
  if (needed) require_pointer(array.data, where, argument);
  if (!array) return;
  const auto sound = [&](std::int64_t stride) { return stride == 0 || stride >= entries; };
  require(sound(array.step), where, std::string(argument) + ".step", array.step,
          "0, or at least the array's size");
  require(sound(array.sequence), where, std::string(argument) + ".sequence", array.sequence,
          "0, or at least the array's size");
}

template <class Real>
void require_sizes(const KalmanModel<Real>& model, const RowLayout& layout, const char* where) {
  require_layout(layout, where);
  require(layout.K == 1, where, "layout.K", layout.K, "1");
  require(model.n >= 1 && model.n <= kMostDimensions, where, "model.n", model.n, "from 1 to 4096");
  require(model.m >= 1 && model.m <= kMostDimensions, where, "model.m", model.m, "from 1 to 4096");
  require(model.U >= 0 && model.U <= kMostDimensions, where, "model.U", model.U, "from 0 to 4096");
}

template <class Real>
void require_model(const KalmanModel<Real>& model, const RowLayout& layout, bool prior,
                   const char* where) {
  require_sizes(model, layout, where);
  const std::int64_t n = model.n, m = model.m, U = model.U;
  require_array(model.A, true, n * n, where, "model.A");
  require_array(model.B, false, n * U, where, "model.B");
  require_array(model.state_offset, false, n, where, "model.state_offset");
  require_array(model.Q, true, n * n, where, "model.Q");
  require_array(model.C, true, m * n, where, "model.C");
  require_array(model.D, false, m * U, where, "model.D");
  require_array(model.observation_offset, false, m, where, "model.observation_offset");
  require_array(model.R, true, model.diagonal_R ? m : m * m, where, "model.R");
  if (!prior) return;
  require_array(model.m0, false, n, where, "model.m0");
  require_array(model.P0, true, n * n, where, "model.P0");
  if (!std::is_same_v<Real, double> && model.diffuse != nullptr) {
    throw InvalidArgument(std::string(where) + ": model.diffuse is given, must be null in float");
  }
}

template <class Real>
void require_data(const KalmanModel<Real>& model, const KalmanData<Real>& data, const char* where) {
  require_model(model, data.layout, true, where);
  const bool some = data.layout.T > 0 && data.layout.B > 0;
  require_input(data.y, some, where, "data.y");
  require_optional_input(data.mask, where, "data.mask");
  require_input(data.u, some && model.U > 0, where, "data.u");
}

template <class Real>
void require_filtered(const KalmanModel<Real>& model, const RowLayout& layout,
                      const KalmanFiltered<Real>& filtered, const char* where) {
  const bool some = layout.T > 0 && layout.B > 0;
  require_input(filtered.mean, some, where, "filtered.mean");
  require_input(filtered.covariance, some, where, "filtered.covariance");
  if (model.diffuse == nullptr || !some) return;
  require_input(filtered.diffuse.mean, some, where, "filtered.diffuse.mean");
  require_input(filtered.diffuse.covariance, some, where, "filtered.diffuse.covariance");
  require_input(filtered.diffuse.factor, some, where, "filtered.diffuse.factor");
  require_input(filtered.diffuse.delta, some, where, "filtered.diffuse.delta");
  require_input(filtered.diffuse.spread, some, where, "filtered.diffuse.spread");
  require_pointer(filtered.merge_step, where, "filtered.merge_step");
}

/// One covariance for all sequences.
template <class Args>
void require_shared(const Args& a, const char* where) {
  const auto shared = [&](const auto& array, const char* argument) {
    require(array.sequence == 0, where, std::string(argument) + ".sequence", array.sequence,
            "0 with shared_covariance");
  };
  shared(a.model.A, "model.A"), shared(a.model.Q, "model.Q"), shared(a.model.C, "model.C");
  shared(a.model.R, "model.R"), shared(a.model.P0, "model.P0");
  if (a.data.mask || a.model.diffuse != nullptr) {
    throw InvalidArgument(std::string(where) +
                          ": shared_covariance with a mask or diffuse states, must be without");
  }
}

template <class Args>
void require_workspace(const Args& a, std::size_t needed, const char* where) {
  require_pointer(a.workspace, where, "workspace");
  require(reinterpret_cast<std::uintptr_t>(a.workspace) % 16 == 0, where, "workspace", a.workspace,
          "16-byte aligned");
  require(a.workspace_bytes >= needed, where, "workspace_bytes", a.workspace_bytes,
          fmt::format("at least {}", needed));
}

/// Rows that a layout of this contract may touch. A packed layout's count lies in offsets, which is
/// not read here.
std::int64_t most_rows(const RowLayout& layout) { return layout.T * layout.B; }

template <class Real>
void require_noise(const KalmanNoise& noise, const KalmanModel<Real>& model,
                   const RowLayout& layout, std::int64_t S, const char* where) {
  require(S >= 0 && S < 1 << 24, where, "S", S, "from 0 to 2^24 - 1");
  require(noise.key.site < 256, where, "noise.key.site", noise.key.site, "below 256");
  require(layout.t0 >= 0, where, "layout.t0", layout.t0, ">= 0");
  require((layout.t0 + layout.T) * ((model.n + model.m + 3) / 4) <= std::int64_t{1} << 32, where,
          "layout.T", layout.T, "at most 2^32 / ceil((n + m) / 4) - t0");
  if (most_rows(layout) > 0) require_pointer(noise.sequence_id, where, "noise.sequence_id");
}

template <class Real>
void check_call(const KalmanFilterArgs<Real>& a, std::size_t needed) {
  const char* where = "kalman_filter";
  const int form = static_cast<int>(a.form);
  if (form < 0 || form > static_cast<int>(KalmanForm::square_root)) {
    require(false, where, "form", form, "a KalmanForm");
  }
  require(a.chunk >= 0, where, "chunk", a.chunk, ">= 0");
  require_data(a.model, a.data, where);
  if (a.shared_covariance) {
    require_shared(a, where);
    require(a.chunk == 0 || a.chunk >= a.data.layout.T, where, "chunk", a.chunk,
            "0, or at least layout.T, with shared_covariance");
  }
  const std::int64_t rows = most_rows(a.data.layout), n = a.model.n;
  require_optional_output(a.mean, rows, n, where, "mean");
  require_optional_output(a.covariance, rows, n * n, where, "covariance");
  require_optional_output(a.predicted_mean, rows, n, where, "predicted_mean");
  require_optional_output(a.predicted_covariance, rows, n * n, where, "predicted_covariance");
  require_optional_output(a.log_likelihood, rows, 1, where, "log_likelihood");
  require_optional_output(a.innovation, rows, a.model.m, where, "innovation");
  if (rows > 0) {
    require_pointer(a.status, where, "status");
  }
  if (rows > 0 && a.model.diffuse != nullptr) {
    require_pointer(a.merge_step, where, "merge_step");
    require_pointer(a.diffuse_steps, where, "diffuse_steps");
    require_optional_output(a.diffuse.mean, rows, n, where, "diffuse.mean");
    require_optional_output(a.diffuse.covariance, rows, n * n, where, "diffuse.covariance");
    require_optional_output(a.diffuse.factor, rows, n * n, where, "diffuse.factor");
    require_optional_output(a.diffuse.delta, a.data.layout.B, n, where, "diffuse.delta");
    require_optional_output(a.diffuse.spread, a.data.layout.B, n * n, where, "diffuse.spread");
  }
  require_workspace(a, needed, where);
}

template <class Real>
void check_call(const KalmanSmootherArgs<Real>& a, std::size_t needed) {
  const char* where = "kalman_smoother";
  require(a.chunk >= 0, where, "chunk", a.chunk, ">= 0");
  require_data(a.model, a.data, where);
  require_filtered(a.model, a.data.layout, a.filtered, where);
  if (a.shared_covariance) {
    require_shared(a, where);
    if (a.data.layout.lengths != nullptr || a.data.layout.offsets != nullptr) {
      throw InvalidArgument(std::string(where) +
                            ": shared_covariance with layout.lengths or offsets, must be without");
    }
  }
  const std::int64_t rows = most_rows(a.data.layout), n = a.model.n;
  require_optional_output(a.mean, rows, n, where, "mean");
  require_optional_output(a.covariance, rows, n * n, where, "covariance");
  require_optional_output(a.lag_one, rows, n * n, where, "lag_one");
  require_workspace(a, needed, where);
}

/// Where gradients go.
template <class Args>
void require_gradient(const Args& a, const char* where) {
  const std::int64_t n = a.model.n, m = a.model.m, U = a.model.U;
  const auto& g = a.grad;
  require_array(g.A, false, n * n, where, "grad.A");
  require_array(g.B, false, n * U, where, "grad.B");
  require_array(g.state_offset, false, n, where, "grad.state_offset");
  require_array(g.Q, false, n * n, where, "grad.Q");
  require_array(g.C, false, m * n, where, "grad.C");
  require_array(g.D, false, m * U, where, "grad.D");
  require_array(g.observation_offset, false, m, where, "grad.observation_offset");
  require_array(g.R, false, a.model.diagonal_R ? m : m * m, where, "grad.R");
  require_array(g.m0, false, n, where, "grad.m0");
  require_array(g.P0, false, n * n, where, "grad.P0");
  require_optional_output(g.y, most_rows(a.data.layout), m, where, "grad.y");
}

template <class Real>
void check_call(const KalmanBackwardArgs<Real>& a, std::size_t needed) {
  const char* where = "kalman_backward";
  require(a.chunk >= 0, where, "chunk", a.chunk, ">= 0");
  require_data(a.model, a.data, where);
  require_filtered(a.model, a.data.layout, a.filtered, where);
  require_optional_input(a.grad_log_likelihood, where, "grad_log_likelihood");
  require_optional_input(a.grad_mean, where, "grad_mean");
  require_optional_input(a.grad_covariance, where, "grad_covariance");
  require_optional_input(a.grad_smoothed_mean, where, "grad_smoothed_mean");
  require_optional_input(a.grad_smoothed_covariance, where, "grad_smoothed_covariance");
  if (a.model.diffuse != nullptr &&
      (a.grad_mean || a.grad_covariance || a.grad_smoothed_mean || a.grad_smoothed_covariance)) {
    throw InvalidArgument(std::string(where) +
                          ": a gradient of moments is given, must not be with diffuse");
  }
  require_gradient(a, where);
  require_workspace(a, needed, where);
}

template <class Real>
void check_call(const KalmanForecastArgs<Real>& a, std::size_t needed) {
  const char* where = "kalman_forecast";
  require_model(a.model, a.layout, false, where);
  const std::int64_t rows = most_rows(a.layout), n = a.model.n, m = a.model.m;
  require_input(a.u, rows > 0 && a.model.U > 0, where, "u");
  require_input(a.mean, rows > 0, where, "mean");
  require_input(a.covariance, rows > 0, where, "covariance");
  require_optional_output(a.state_mean, rows, n, where, "state_mean");
  require_optional_output(a.state_covariance, rows, n * n, where, "state_covariance");
  require_optional_output(a.observation_mean, rows, m, where, "observation_mean");
  require_optional_output(a.observation_covariance, rows, m * m, where, "observation_covariance");
  require_workspace(a, needed, where);
}

template <class Real>
void check_call(const KalmanSimulateArgs<Real>& a, std::size_t needed) {
  const char* where = "kalman_simulate";
  require_model(a.model, a.layout, true, where);
  require_noise(a.noise, a.model, a.layout, a.S, where);
  const std::int64_t rows = most_rows(a.layout);
  require_input(a.u, rows > 0 && a.model.U > 0, where, "u");
  require_optional_input(a.given_z, where, "given_z");
  require_optional_output(a.z, rows * a.S, a.model.n, where, "z");
  require_optional_output(a.y, rows * a.S, a.model.m, where, "y");
  require_optional_output(a.y_mean, rows * a.S, a.model.m, where, "y_mean");
  require_optional_output(a.y_logvar, rows * a.S, a.model.m, where, "y_logvar");
  if (rows > 0) require_pointer(a.status, where, "status");
  require_workspace(a, needed, where);
}

template <class Real>
void check_call(const KalmanSampleArgs<Real>& a, std::size_t needed) {
  const char* where = "kalman_sample";
  require_data(a.model, a.data, where);
  require_filtered(a.model, a.data.layout, a.filtered, where);
  require_noise(a.noise, a.model, a.data.layout, a.S, where);
  const std::int64_t rows = most_rows(a.data.layout);
  require_output(a.z, rows * a.S, a.model.n, where, "z");
  if (rows > 0) require_pointer(a.status, where, "status");
  require_workspace(a, needed, where);
}

template <class Real>
void check_call(const KalmanSampleBackwardArgs<Real>& a, std::size_t needed) {
  const char* where = "kalman_sample_backward";
  require_data(a.model, a.data, where);
  if (a.model.diffuse != nullptr) {
    throw InvalidArgument(std::string(where) + ": model.diffuse is given, must be null");
  }
  require_noise(a.noise, a.model, a.data.layout, a.S, where);
  require_input(a.grad_z, most_rows(a.data.layout) * a.S > 0, where, "grad_z");
  require_gradient(a, where);
  require_workspace(a, needed, where);
}

/// What the kernels are compiled for.
template <class Real>
void require_on_cuda(const KalmanModel<Real>& model, const RowLayout& layout, const char* where) {
  require_sizes(model, layout, where);
  constexpr std::int64_t most = cuda::kalman::kMostDimensions;
  require(model.n <= most, where, "model.n", model.n, "at most 64 on a CUDA device");
  require(model.m <= most, where, "model.m", model.m, "at most 64 on a CUDA device");
  if (model.diffuse != nullptr) {
    throw InvalidArgument(std::string(where) +
                          ": model.diffuse is given, must be null on a CUDA device");
  }
}

}  // namespace

template <class Real>
void check(const KalmanFilterArgs<Real>& a) {
  check_call(a, kalman_workspace_bytes(a));
}
template <class Real>
void check(const KalmanSmootherArgs<Real>& a) {
  check_call(a, kalman_workspace_bytes(a));
}
template <class Real>
void check(const KalmanBackwardArgs<Real>& a) {
  check_call(a, kalman_workspace_bytes(a));
}
template <class Real>
void check(const KalmanForecastArgs<Real>& a) {
  check_call(a, kalman_workspace_bytes(a));
}
template <class Real>
void check(const KalmanSimulateArgs<Real>& a) {
  check_call(a, kalman_workspace_bytes(a));
}
template <class Real>
void check(const KalmanSampleArgs<Real>& a) {
  check_call(a, kalman_workspace_bytes(a));
}
template <class Real>
void check(const KalmanSampleBackwardArgs<Real>& a) {
  check_call(a, kalman_workspace_bytes(a));
}

template void check(const KalmanFilterArgs<float>&);
template void check(const KalmanFilterArgs<double>&);
template void check(const KalmanSmootherArgs<float>&);
template void check(const KalmanSmootherArgs<double>&);
template void check(const KalmanBackwardArgs<float>&);
template void check(const KalmanBackwardArgs<double>&);
template void check(const KalmanForecastArgs<float>&);
template void check(const KalmanForecastArgs<double>&);
template void check(const KalmanSimulateArgs<float>&);
template void check(const KalmanSimulateArgs<double>&);
template void check(const KalmanSampleArgs<float>&);
template void check(const KalmanSampleArgs<double>&);
template void check(const KalmanSampleBackwardArgs<float>&);
template void check(const KalmanSampleBackwardArgs<double>&);

namespace cuda {

template <class Real>
std::size_t kalman_workspace_bytes(const KalmanFilterArgs<Real>& a) {
  require_on_cuda(a.model, a.data.layout, "kalman_filter");
  require(a.chunk >= 0, "kalman_filter", "chunk", a.chunk, ">= 0");
  return kalman::ChunkWorkspace<Real>(
             a, kalman::chunks_of(a),
             std::max(kalman::bytes_of<kalman::SummaryMemory>(a.model, a.form),
                      kalman::ApplyMemory<Real, 64>(Arena(nullptr, kalman::kAlignment)).bytes))
      .bytes;
}
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSmootherArgs<Real>& a) {
  require_on_cuda(a.model, a.data.layout, "kalman_smoother");
  require(a.chunk >= 0, "kalman_smoother", "chunk", a.chunk, ">= 0");
  return kalman::SmootherWorkspace<Real>(
             a, kalman::chunks_of(a),
             std::max(kalman::bytes_of<kalman::SmootherMemory>(a.model),
                      kalman::ApplyMemory<Real, 64>(Arena(nullptr, kalman::kAlignment)).bytes))
      .bytes;
}
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanBackwardArgs<Real>& a) {
  require_on_cuda(a.model, a.data.layout, "kalman_backward");
  require(a.chunk >= 0, "kalman_backward", "chunk", a.chunk, ">= 0");
  return kalman::ReverseWorkspace<Real>(a, kalman::chunks_of(a)).bytes;
}
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanForecastArgs<Real>& a) {
  require_on_cuda(a.model, a.layout, "kalman_forecast");
  return kalman::workspace_bytes<kalman::ForecastMemory>(a.model, a.layout.B);
}
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSimulateArgs<Real>& a) {
  require_on_cuda(a.model, a.layout, "kalman_simulate");
  return kalman::workspace_bytes<kalman::PathMemory>(a.model,
                                                     a.layout.B * std::max<std::int64_t>(a.S, 1));
}
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSampleArgs<Real>& a) {
  require_on_cuda(a.model, a.data.layout, "kalman_sample");
  return kalman::SampleWorkspace<Real>(
             a, std::max(kalman::bytes_of<kalman::FilterMemory>(a.model, KalmanForm::joseph),
                         kalman::bytes_of<kalman::PathMemory>(a.model)))
      .bytes;
}
template <class Real>
std::size_t kalman_workspace_bytes(const KalmanSampleBackwardArgs<Real>& a) {
  require_on_cuda(a.model, a.data.layout, "kalman_sample_backward");
  return kalman::ReverseWorkspace<Real>(a).bytes;
}

template <class Real>
void check(const KalmanFilterArgs<Real>& a) {
  check_call(a, cuda::kalman_workspace_bytes(a));
}
template <class Real>
void check(const KalmanSmootherArgs<Real>& a) {
  check_call(a, cuda::kalman_workspace_bytes(a));
}
template <class Real>
void check(const KalmanBackwardArgs<Real>& a) {
  check_call(a, cuda::kalman_workspace_bytes(a));
}
template <class Real>
void check(const KalmanForecastArgs<Real>& a) {
  check_call(a, cuda::kalman_workspace_bytes(a));
}
template <class Real>
void check(const KalmanSimulateArgs<Real>& a) {
  check_call(a, cuda::kalman_workspace_bytes(a));
}
template <class Real>
void check(const KalmanSampleArgs<Real>& a) {
  check_call(a, cuda::kalman_workspace_bytes(a));
}
template <class Real>
void check(const KalmanSampleBackwardArgs<Real>& a) {
  check_call(a, cuda::kalman_workspace_bytes(a));
}

template std::size_t kalman_workspace_bytes(const KalmanFilterArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanFilterArgs<double>&);
template std::size_t kalman_workspace_bytes(const KalmanSmootherArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanSmootherArgs<double>&);
template std::size_t kalman_workspace_bytes(const KalmanBackwardArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanBackwardArgs<double>&);
template std::size_t kalman_workspace_bytes(const KalmanForecastArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanForecastArgs<double>&);
template std::size_t kalman_workspace_bytes(const KalmanSimulateArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanSimulateArgs<double>&);
template std::size_t kalman_workspace_bytes(const KalmanSampleArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanSampleArgs<double>&);
template std::size_t kalman_workspace_bytes(const KalmanSampleBackwardArgs<float>&);
template std::size_t kalman_workspace_bytes(const KalmanSampleBackwardArgs<double>&);
template void check(const KalmanFilterArgs<float>&);
template void check(const KalmanFilterArgs<double>&);
template void check(const KalmanSmootherArgs<float>&);
template void check(const KalmanSmootherArgs<double>&);
template void check(const KalmanBackwardArgs<float>&);
template void check(const KalmanBackwardArgs<double>&);
template void check(const KalmanForecastArgs<float>&);
template void check(const KalmanForecastArgs<double>&);
template void check(const KalmanSimulateArgs<float>&);
template void check(const KalmanSimulateArgs<double>&);
template void check(const KalmanSampleArgs<float>&);
template void check(const KalmanSampleArgs<double>&);
template void check(const KalmanSampleBackwardArgs<float>&);
template void check(const KalmanSampleBackwardArgs<double>&);

}  // namespace cuda

}  // namespace seqvae
