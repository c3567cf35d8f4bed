#include "seqvae/graph/executor.hpp"

#include "host/graph/loop_chain.hpp"
#include "host/graph/regions.hpp"
#include "host/graph/scan_runner.hpp"

namespace seqvae {

template <class Real>
Executor<Real>::Executor(Scan scan, const ParameterTable& parameters, ThreadPool& pool,
                         std::int64_t particles)
    : runner_(make_sharded_runner<Real>(std::move(scan), parameters, pool, particles)) {}
template <class Real>
Executor<Real>::Executor(Scan scan, const ParameterTable& parameters, const Queue& queue,
                         std::int64_t particles)
    : runner_(make_queued_runner<Real>(std::move(scan), parameters, queue, particles,
                                       LoopForm::chains)) {}
template <class Real>
Executor<Real>::~Executor() = default;
template <class Real>
Executor<Real>::Executor(Executor&&) noexcept = default;

template <class Real>
void Executor<Real>::set_parameters(const Real* values) {
  require_pointer(values, "Executor", "values");
  runner_->set_parameters(values);
}

template <class Real>
void Executor<Real>::run(const ScanBatch<Real>& batch, Real* gradients) {
  runner_->run(batch, gradients);
}

template <class Real>
bool Executor<Real>::has_output(const std::string& name) const {
  for (const Output& output : scan().graph.outputs) {
    if (output.name == name) return true;
  }
  return false;
}

template <class Real>
std::int64_t Executor<Real>::width(const std::string& output) const {
  return scan().graph[scan().graph.output(output)].D;
}

template <class Real>
std::int64_t Executor<Real>::output_rows(const std::string& name) const {
  return runner_->rows_of(scan().graph[scan().graph.output(name)]);
}

template <class Real>
std::vector<Real> Executor<Real>::output(const std::string& name) const {
  std::vector<Real> out(static_cast<std::size_t>(output_rows(name) * width(name)));
  copy_output(name, out);
  return out;
}

template <class Real>
void Executor<Real>::copy_output(const std::string& name, std::span<Real> out) const {
  const std::int64_t elements = output_rows(name) * width(name);
  require(out.size() == static_cast<std::size_t>(elements), "Executor", "elements of the output",
          out.size(), fmt::format("{}", elements));
  runner_->copy_output(scan().graph.output(name), out.data());
}

template <class Real>
const Scan& Executor<Real>::scan() const {
  return runner_->scan();
}
template <class Real>
std::int64_t Executor<Real>::particles() const {
  return runner_->particles();
}
template <class Real>
std::size_t Executor<Real>::arena_bytes() const {
  return runner_->arena_bytes();
}
template <class Real>
std::int64_t Executor<Real>::plan_count() const {
  return runner_->plan_count();
}

std::string describe_loops(const Scan& scan, const ParameterTable& parameters, const Queue& queue,
                           std::int64_t particles) {
  Scan ordered = scan;
  put_carries_first(ordered);
  const std::vector<std::string> why_not =
      why_not_chains<float>(ordered, parameters, queue, particles);
  std::string text = "loops on a CUDA device\n";
  for (std::size_t r = 0; r < why_not.size(); ++r) {
    const Region& region = scan.schedule.regions[r];
    if (!region.loop) continue;
    text += fmt::format("  {} in time, {} nodes: {}\n",
                        region.backward_in_time ? "backward" : "forward", region.nodes.size(),
                        why_not[r].empty() ? "one chain" : "step by step: " + why_not[r]);
  }
  return text;
}

template class Executor<float>;
template class Executor<double>;

}  // namespace seqvae
