// A scan in the order of a queue: the whole batch, longest sequences first.
//
// Sizes come from the capacity of a plan: B as it is, T and the rows R rounded up. Values outside
// of loops stand packed, with rows from R on that hold what zeros become. A loop whose ops allow it
// is one chain (loop_chain.hpp), which knows of packed rows; another runs step by step over padded
// rows [T][B], which stand where they stand whatever the lengths (pad_loops). What hangs on the
// lengths lies in memory that the kernels read: so one recording serves every batch of its
// capacity. Rows that no sequence has never reach a result: they are zero in the "weight" that
// every step's terms are multiplied by where there is a gradient, and are left out of sums over
// time.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "host/graph/loop_chain.hpp"
#include "host/graph/regions.hpp"
#include "host/graph/scan_runner.hpp"
#include "seqvae/core/arena.hpp"
#include "seqvae/core/index.hpp"

namespace seqvae {
namespace {

/// What a run is given, on the host and, byte for byte, on the device: one copy brings it.
template <class Real>
struct Given {
  std::int32_t *offsets, *particle_offsets, *origins;
  std::uint32_t* sequence_id;
  Particles particles;
  std::uint64_t* step;
  Real *nothing, *goes_on, *inputs;

  Given(std::byte* memory, const Capacity& capacity, std::int64_t elements) {
    Arena arena(memory);
    offsets = arena.take<std::int32_t>(capacity.steps + 1);
    particle_offsets = arena.take<std::int32_t>(capacity.steps + 1);
    origins = arena.take<std::int32_t>(capacity.sequences);
    sequence_id = arena.take<std::uint32_t>(capacity.sequences);
    const std::int64_t count = capacity.sequences * capacity.particles;
    particles.sequence_id = arena.take<std::uint32_t>(count);
    particles.draw = arena.take<std::uint32_t>(count);
    particles.origin = arena.take<std::int32_t>(count);
    step = arena.take<std::uint64_t>(1);
    nothing = arena.take<Real>(1);
    goes_on = arena.take<Real>(capacity.steps * count);
    inputs = arena.take<Real>(elements);
    bytes = arena.used();
  }
  std::size_t bytes;
};

/// A loop's chain, its table on the device.
template <class Real>
struct PreparedChain {
  ChainArgs<Real> args;
  Buffer<ChainStage<Real>> table;
};

/// By their regions.
template <class Real>
using Chains = std::map<std::size_t, PreparedChain<Real>>;

/// What is made once for a capacity.
template <class Real>
struct Prepared {
  Places places;
  ScanRows<Real> rows;
  std::vector<std::int32_t> first;  ///< [T + 1]  of a padded step
  std::vector<Instruction<Real>> instructions;
  Chains<Real> chains;
  std::vector<std::vector<DenseWeightGradientArgs<Real>>> sums;  ///< of gradients, each one call
  std::size_t given_bytes = 0;
  Real* gradients = nullptr;
  bool run_before = false;  ///< products have found their algorithms
  std::optional<Recording> recording;
};

template <class Real>
class QueuedRunner : public ScanRunner<Real> {
 public:
  QueuedRunner(Scan scan, const ParameterTable& parameters, const Queue& queue,
               std::int64_t particles, LoopForm form)
      : ScanRunner<Real>(std::move(scan), parameters, particles),
        queue_(queue),
        form_(form),
        arena_(queue),
        given_(queue),
        scratch_(queue) {
    if (!scan_.graph.sinks.empty()) {
      require(scan_.options.weighted, "Executor", "weighted", false,
              "true where a gradient is taken in the order of a queue");
    }
    put_carries_first(scan_);
    has_gradients_ = put_gradients_last(scan_);
    group_products(scan_);
    pad_loops(scan_, form_ == LoopForm::chains ? loops_that_chain() : std::vector<bool>());
    plan_ = make_plan(scan_, Loops::padded);
    if (queue_.device().is_cpu()) packed_.emplace(scan_, parameters_);
  }
  ~QueuedRunner() override { queue_.synchronize(); }

  void set_parameters(const Real* values) override {
    if (values_ != values) prepared_.clear();  // their instructions point to the old ones
    values_ = values;
    if (packed_) packed_->pack(values, 0, 1);
  }

  void copy_output(NodeId id, Real* out) const override {
    const Node& node = scan_.graph[id];
    const Storage& storage = plan_.storage[index(id)];
    const Operand<Real>& from = last_->instructions[index(id)].output;
    const std::int64_t K = this->particles(node), D = node.D, B = sequences_.B();
    const bool step = node.kind.base == RowKind::Base::step;
    std::int64_t rows = 1;
    if (node.kind.base == RowKind::Base::sequence) rows = B;
    if (step) rows = storage.padded ? sequences_.T * B : sequences_.rows();
    if (rows == 0) return;
    std::vector<Real> all(index((rows * K - 1) * from.stride + D));
    queue_.copy(all.data(), from.data, all.size() * sizeof(Real));
    queue_.synchronize();
    const auto copy_rows = [&](std::int64_t row) {
      for (std::int64_t k = 0; k < K; ++k, out += D) {
        std::copy_n(all.data() + (row * K + k) * from.stride, D, out);
      }
    };
    if (node.kind.base == RowKind::Base::shared) return copy_rows(0);
    for (std::size_t i = 0; i < lengths_.size(); ++i) {
      const std::int64_t b = place_of_[i];
      if (!step) copy_rows(b);
      for (std::int64_t t = 0; step && t < lengths_[i]; ++t) {
        copy_rows((storage.padded ? t * B : sequences_.offsets[index(t)]) + b);
      }
    }
  }

  std::size_t arena_bytes() const override { return arena_.count() * sizeof(Real); }
  std::int64_t plan_count() const override { return static_cast<std::int64_t>(prepared_.size()); }
  std::int64_t chain_count() const override {
    return static_cast<std::int64_t>(last_->chains.size());
  }

 private:
  using ScanRunner<Real>::scan_;
  using ScanRunner<Real>::parameters_;
  using ScanRunner<Real>::K_;
  using ScanRunner<Real>::values_;
  using ScanRunner<Real>::lengths_;

  std::vector<bool> loops_that_chain() const {
    std::vector<bool> chains;
    for (const std::string& why_not : why_not_chains<Real>(scan_, parameters_, queue_, K_)) {
      chains.push_back(why_not.empty());
    }
    return chains;
  }

  void run_checked(const ScanBatch<Real>& batch, Real* gradients) override {
    lay_out(batch);
    const Capacity capacity{bucket(sequences_.rows()), sequences_.B(), K_, bucket(sequences_.T)};
    Prepared<Real>& now = prepare(capacity, batch.seed, gradients);
    last_ = &now;
    bring_given(now, capacity, batch);
    if (!batch.noise.empty()) {
      with_given_noise(now, capacity, batch);
    } else if (!now.run_before) {
      enqueue(now, now.chains);
      now.run_before = true;
    } else {
      if (!now.recording) now.recording.emplace(queue_, [&] { enqueue(now, now.chains); });
      now.recording->replay();
    }
  }

  void lay_out(const ScanBatch<Real>& batch) {
    sort_by_length(batch.lengths, sequences_.members);
    sequences_.lay_out(batch);
    place_of_.resize(sequences_.members.size());
    for (std::size_t b = 0; b < place_of_.size(); ++b) {
      place_of_[index(sequences_.members[b])] = static_cast<std::int64_t>(b);
    }
  }

  /// Memory grows for all capacities at once, and then all are made anew.
  Prepared<Real>& prepare(const Capacity& capacity, std::uint64_t seed, Real* gradients) {
    auto found = prepared_.find(capacity);
    if (found != prepared_.end() && found->second.gradients == gradients &&
        found->second.rows.seed == seed) {
      return found->second;
    }
    if (found != prepared_.end()) prepared_.erase(found);
    Prepared<Real> made;
    made.places = place(scan_, plan_, capacity);
    made.gradients = gradients;
    made.given_bytes = Given<Real>(nullptr, capacity, made.places.given).bytes;
    ScanRows<Real>& rows = made.rows;
    rows.queue = &queue_;
    rows.T = capacity.steps, rows.B = capacity.sequences, rows.K = K_, rows.R = capacity.rows;
    rows.seed = seed;
    for (std::int64_t t = 0; t <= rows.T; ++t) {
      made.first.push_back(static_cast<std::int32_t>(t * rows.B));
    }
    grow(made);
    const Given<Real> given(given_.data(), capacity, made.places.given);
    rows.first = made.first.data();  // moves with its vector
    rows.offsets = given.offsets, rows.particle_offsets = given.particle_offsets;
    rows.origins = given.origins;
    rows.sequence_id = given.sequence_id, rows.particles = given.particles;
    rows.step = given.step;
    rows.nothing = given.nothing, rows.goes_on = given.goes_on;
    make_instructions(scan_, plan_, made.places, parameters_, packed(), memory_of(given, gradients),
                      K_, made.instructions);
    made.chains = chains_of(made, memory_of(given, gradients), {});
    made.sums = gradients_of(made);
    std::size_t bytes = scratch_bytes(made.instructions, rows);
    for (const auto& calls : made.sums) {
      if (!queue_.device().is_cpu()) bytes = std::max(bytes, workspace_bytes(sum_of(calls)));
    }
    for (const auto& [region, chain] : made.chains) {
      bytes = std::max(bytes, cpu::chain_workspace_bytes(chain.args));
    }
    if (scratch_.count() < bytes) {
      prepared_.clear();
      scratch_.resize(bytes);
    }
    for (Instruction<Real>& instruction : made.instructions) {
      instruction.scratch = scratch_.data(), instruction.scratch_bytes = scratch_.count();
    }
    lend_scratch(made.chains);
    return prepared_.emplace(capacity, std::move(made)).first->second;
  }

  WeightGradientsArgs<Real> sum_of(const std::vector<DenseWeightGradientArgs<Real>>& calls) const {
    return {calls.data(), static_cast<std::int64_t>(calls.size()), scratch_.data(),
            scratch_.count()};
  }
  static std::size_t workspace_bytes(const WeightGradientsArgs<float>& args) {
    return cuda::weight_gradients_workspace_bytes(args);
  }
  static std::size_t workspace_bytes(const WeightGradientsArgs<double>&) { return 0; }

  /// The sinks' sums, as few calls as have no two sums in one place.
  std::vector<std::vector<DenseWeightGradientArgs<Real>>> gradients_of(
      const Prepared<Real>& made) const {
    std::vector<std::vector<DenseWeightGradientArgs<Real>>> calls;
    if (!has_gradients_ || made.gradients == nullptr) return calls;
    std::set<const Real*> places;
    for (NodeId id : scan_.schedule.regions.back().nodes) {
      const auto sum = gradient_of(made.instructions[index(id)], made.rows);
      const auto taken = [&](const Real* place) { return places.contains(place); };
      if (calls.empty() || taken(sum.grad_W.data) || taken(sum.grad_bias)) {
        calls.emplace_back(), places.clear();
      }
      calls.back().push_back(sum);
      for (const Real* place :
           {static_cast<const Real*>(sum.grad_W.data), static_cast<const Real*>(sum.grad_bias)}) {
        if (place != nullptr) places.insert(place);
      }
    }
    return calls;
  }

  const PackedParameters<Real>* packed() const { return packed_ ? &*packed_ : nullptr; }
  ScanMemory<Real> memory_of(const Given<Real>& given, Real* gradients) const {
    return {arena_.data(), given.inputs, values_, gradients};
  }

  Chains<Real> chains_of(const Prepared<Real>& made, const ScanMemory<Real>& memory,
                         const GivenNoise<Real>& noise) const {
    Chains<Real> chains;
    for (std::size_t r = 0; r < scan_.schedule.regions.size(); ++r) {
      const Region& region = scan_.schedule.regions[r];
      if (!region.loop || region.padded) continue;
      const LoopChain<Real> chain = make_loop_chain(scan_, region, plan_, made.places, parameters_,
                                                    packed(), memory, made.rows, noise);
      PreparedChain<Real> ready{chain.args, Buffer<ChainStage<Real>>(queue_)};
      ready.table.upload(chain.table);
      chains.emplace(r, std::move(ready));
    }
    return chains;
  }

  void lend_scratch(Chains<Real>& chains) const {
    for (auto& [region, chain] : chains) {
      chain.args.table = chain.table.data();
      chain.args.workspace = scratch_.data(), chain.args.workspace_bytes = scratch_.count();
    }
  }

  void grow(const Prepared<Real>& made) {
    if (arena_.count() >= index(made.places.arena) && given_.count() >= made.given_bytes) return;
    queue_.synchronize();
    prepared_.clear();
    if (arena_.count() < index(made.places.arena)) arena_.resize(index(made.places.arena));
    if (given_.count() < made.given_bytes) given_.resize(made.given_bytes);
  }

  void bring_given(Prepared<Real>& now, const Capacity& capacity, const ScanBatch<Real>& batch) {
    queue_.synchronize();  // the run before has read what is overwritten here
    staged_.assign(now.given_bytes, std::byte{0});
    const Given<Real> given(staged_.data(), capacity, now.places.given);
    std::copy(sequences_.offsets.begin(), sequences_.offsets.end(), given.offsets);
    std::fill(given.offsets + sequences_.T + 1, given.offsets + capacity.steps + 1,
              sequences_.offsets.back());
    for (std::int64_t t = 0; t <= capacity.steps; ++t) {
      given.particle_offsets[t] = given.offsets[t] * static_cast<std::int32_t>(K_);
    }
    std::copy(sequences_.origins.begin(), sequences_.origins.end(), given.origins);
    std::copy(sequences_.sequence_id.begin(), sequences_.sequence_id.end(), given.sequence_id);
    for (std::int64_t i = 0; i < capacity.sequences * K_; ++i) {
      given.particles.sequence_id[i] = given.sequence_id[i / K_];
      given.particles.draw[i] = static_cast<std::uint32_t>(i % K_);
      given.particles.origin[i] = given.origins[i / K_];
    }
    *given.step = batch.step;
    for (std::int64_t t = 0; t + 1 < sequences_.T; ++t) {
      std::fill_n(given.goes_on + t * capacity.sequences * K_, sequences_.active(t + 1) * K_,
                  Real{1});
    }
    for (std::size_t i = 0; i < scan_.graph.nodes.size(); ++i) {
      const Node& node = scan_.graph.nodes[i];
      Real* to = given.inputs + now.places.offsets[i];
      if (node.op == Op::constant) std::fill_n(to, node.D, static_cast<Real>(node.alpha));
      if (node.op == Op::noise_position) bring_times(to);
      if (node.op == Op::input) bring(node, bound(batch, node.name), Loops::packed, to);
    }
    queue_.copy(given_.data(), staged_.data(), staged_.size());
  }

  void bring_times(Real* to) const {
    for (std::int64_t t = 0; t < sequences_.T; ++t) {
      for (std::int64_t b = 0; b < sequences_.active(t); ++b) {
        *to++ = static_cast<Real>(t + sequences_.origins[index(b)]);
      }
    }
  }

  void bring(const Node& node, const Real* from, Loops layout, Real* to) const {
    const std::int64_t D = node.D * this->particles(node);
    if (node.kind.base == RowKind::Base::shared) {
      std::copy_n(from, D, to);
    } else if (node.kind.base == RowKind::Base::sequence) {
      sequences_.bring_sequences(from, D, to);
    } else {
      const auto first = [&](std::int64_t t) {
        return layout == Loops::padded ? t * sequences_.B() : sequences_.offsets[index(t)];
      };
      sequences_.bring_steps(from, D, first, to);
    }
  }

  /// Draws are the caller's: one run, which is not recorded.
  void with_given_noise(Prepared<Real>& now, const Capacity& capacity,
                        const ScanBatch<Real>& batch) {
    std::vector<Buffer<Real>> buffers;
    GivenNoise<Real> given_noise;
    for (const Binding<Real>& binding : batch.noise) {
      const NodeId id = latent_of(scan_, binding.name);
      const Node& drawn = scan_.graph[id];
      const bool step = drawn.kind.base == RowKind::Base::step, padded = is_padded(scan_, id);
      const std::int64_t K = this->particles(drawn), D = drawn.D;
      const std::int64_t rows = padded ? now.rows.T * now.rows.B : step ? now.rows.R : now.rows.B;
      std::vector<Real> noise(index(rows * K * D), Real{0});
      bring(drawn, binding.data, padded ? Loops::padded : Loops::packed, noise.data());
      buffers.emplace_back(queue_).upload(noise);
      given_noise.push_back(
          {&drawn, Operand<Real>{buffers.back().data(), D, step ? K : 0, D, drawn.kind}});
      give_noise(now.instructions, drawn, given_noise.back().second);
    }
    const Given<Real> given(given_.data(), capacity, now.places.given);
    Chains<Real> chains = chains_of(now, memory_of(given, now.gradients), given_noise);
    lend_scratch(chains);
    enqueue(now, chains);
    queue_.synchronize();
    for (Instruction<Real>& instruction : now.instructions) instruction.noise = {};
  }

  void enqueue(const Prepared<Real>& now, const Chains<Real>& chains) const {
    if (now.gradients != nullptr) {
      queue_.clear(now.gradients, index(parameters_.size()) * sizeof(Real));
    }
    const std::size_t regions = scan_.schedule.regions.size() - (has_gradients_ ? 1 : 0);
    for (std::size_t r = 0; r < regions; ++r) {
      const auto chain = chains.find(r);
      if (chain != chains.end()) {
        seqvae::run(chain->second.args, queue_);
      } else {
        execute(scan_.schedule.regions[r], now.instructions, now.rows);
      }
    }
    for (const auto& calls : now.sums) seqvae::run(sum_of(calls), queue_);
  }

  const Queue& queue_;
  LoopForm form_;
  bool has_gradients_ = false;  ///< the last region is sinks
  Plan plan_;
  std::optional<PackedParameters<Real>> packed_;
  Buffer<Real> arena_;
  Buffer<std::byte> given_, scratch_;
  std::vector<std::byte> staged_;
  std::map<Capacity, Prepared<Real>> prepared_;
  Sequences sequences_;                 // of the last batch, as are these
  std::vector<std::int64_t> place_of_;  // of a sequence: among them
  const Prepared<Real>* last_ = nullptr;
};

}  // namespace

template <class Real>
std::unique_ptr<ScanRunner<Real>> make_queued_runner(Scan scan, const ParameterTable& parameters,
                                                     const Queue& queue, std::int64_t particles,
                                                     LoopForm form) {
  return std::make_unique<QueuedRunner<Real>>(std::move(scan), parameters, queue, particles, form);
}
template std::unique_ptr<ScanRunner<float>> make_queued_runner(Scan, const ParameterTable&,
                                                               const Queue&, std::int64_t,
                                                               LoopForm);
template std::unique_ptr<ScanRunner<double>> make_queued_runner(Scan, const ParameterTable&,
                                                                const Queue&, std::int64_t,
                                                                LoopForm);

}  // namespace seqvae
