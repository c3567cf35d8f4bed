#include "seqvae/graph/executor.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <new>
#include <numeric>

#include "host/graph/lowering.hpp"
#include "host/graph/plan.hpp"
#include "seqvae/core/error.hpp"

namespace seqvae {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

/// Capacities grow by an eighth: a batch of nearly the same size reuses its plan.
std::int64_t bucket(std::int64_t n) {
  std::int64_t capacity = 16;
  while (capacity < n) capacity += std::max<std::int64_t>(capacity / 8, 1);
  return capacity;
}

/// Memory of one shard, 64-byte aligned, that only grows.
template <class Real>
class Arena {
 public:
  Real* reserve(std::int64_t elements) {
    if (elements > size_) {
      memory_.reset(), size_ = 0;  // not two at once
      memory_.reset(static_cast<Real*>(
          ::operator new[](index(elements) * sizeof(Real), std::align_val_t{64})));
      size_ = elements;
      std::fill_n(memory_.get(), elements, Real{0});
    }
    return memory_.get();
  }
  std::int64_t size() const { return size_; }

 private:
  struct Free {
    void operator()(Real* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  std::unique_ptr<Real[], Free> memory_;
  std::int64_t size_ = 0;
};

/// A matrix that several products may share: columns of a parameter, or their transpose.
template <class Real>
struct Packed {
  ParameterView view;
  bool transposed;
  cpu::PackedWeights<Real> weights;
};

template <class Real>
struct Shard {
  ShardRows<Real> rows;
  std::vector<std::int32_t> members;  ///< indices in the batch, longest first
  Arena<Real> arena;
  Arena<std::byte> scratch;
  const std::vector<std::int64_t>* offsets = nullptr;  ///< of each node's root, as planned
  std::vector<Instruction<Real>> instructions;         ///< of each node
  std::vector<Real> gradients;                         ///< of all shards but the first
};

}  // namespace

template <class Real>
struct Executor<Real>::Impl {
  Scan scan;
  const ParameterTable& parameters;
  ThreadPool& pool;
  std::int64_t K;
  Plan plan;
  std::vector<Packed<Real>> packed;
  std::vector<std::int32_t> packed_of;  // of each node; -1: no product
  const Real* values = nullptr;
  std::vector<Shard<Real>> shards;
  std::map<Capacity, std::vector<std::int64_t>, bool (*)(const Capacity&, const Capacity&)> places;
  std::vector<std::int32_t> lengths;  // of the last batch
  std::vector<std::int32_t> order;
  std::vector<std::pair<std::int32_t, std::int32_t>> where;  // of each sequence: shard, place in it
  std::vector<Real> row;                                     // scratch of copy_output
  std::map<std::string, NodeId> latents;                     // draws that may be given

  Impl(Scan scan_, const ParameterTable& parameters_, ThreadPool& pool_, std::int64_t particles)
      : scan(std::move(scan_)),
        parameters(parameters_),
        pool(pool_),
        K(particles),
        plan(make_plan(scan)),
        shards(index(pool_.count())),
        places([](const Capacity& a, const Capacity& b) {
          return std::tie(a.rows, a.sequences, a.particles) <
                 std::tie(b.rows, b.sequences, b.particles);
        }) {
    require(K >= 1, "Executor", "particles", K, ">= 1");
    // Carries read the step beside: before any node of their own step is computed.
    for (Region& region : scan.schedule.regions) {
      if (!region.loop) continue;
      std::stable_partition(region.nodes.begin(), region.nodes.end(),
                            [&](NodeId id) { return scan.graph[id].op == Op::carry; });
    }
    packed_of.assign(scan.graph.nodes.size(), -1);
    for (std::size_t i = 0; i < scan.graph.nodes.size(); ++i) {
      const Node& node = scan.graph.nodes[i];
      if (node.op == Op::gaussian_sample) latents[node.name] = static_cast<NodeId>(i);
      if (node.op != Op::linear && node.op != Op::linear_transposed) continue;
      packed_of[i] = find_packed(node.weight, node.op == Op::linear_transposed);
    }
  }

  std::int32_t find_packed(const ParameterView& view, bool transposed) {
    for (std::size_t p = 0; p < packed.size(); ++p) {
      const ParameterView& v = packed[p].view;
      if (v.parameter == view.parameter && v.begin == view.begin && v.cols == view.cols &&
          packed[p].transposed == transposed) {
        return static_cast<std::int32_t>(p);
      }
    }
    const std::int64_t out = parameters[view.parameter].rows;
    packed.push_back({view, transposed,
                      transposed ? cpu::PackedWeights<Real>(view.cols, out)
                                 : cpu::PackedWeights<Real>(out, view.cols)});
    return static_cast<std::int32_t>(packed.size() - 1);
  }

  // --- one run --------------------------------------------------------------------------------

  void deal(const ScanBatch<Real>& batch) {
    const std::size_t B = batch.lengths.size();
    require(batch.first_row.size() == B, "Executor", "first_row", batch.first_row.size(),
            "one a sequence");
    require(batch.sequence_id.size() == B, "Executor", "sequence_id", batch.sequence_id.size(),
            "one a sequence");
    require(batch.origin.empty() || batch.origin.size() == B, "Executor", "origin",
            batch.origin.size(), "empty or one a sequence");
    lengths.assign(batch.lengths.begin(), batch.lengths.end());
    order.resize(B), where.resize(B);
    std::iota(order.begin(), order.end(), 0);
    // Insertion keeps ties in the batch's order, as a stable sort does, without its buffer.
    std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
      return lengths[index(a)] != lengths[index(b)] ? lengths[index(a)] > lengths[index(b)] : a < b;
    });
    for (Shard<Real>& shard : shards) shard.members.clear();
    for (std::size_t i = 0; i < B; ++i) {
      const std::size_t s = i % shards.size();
      where[index(order[i])] = {static_cast<std::int32_t>(s),
                                static_cast<std::int32_t>(shards[s].members.size())};
      shards[s].members.push_back(order[i]);
    }
    for (Shard<Real>& shard : shards) lay_out(shard, batch);
  }

  void lay_out(Shard<Real>& shard, const ScanBatch<Real>& batch) {
    ShardRows<Real>& rows = shard.rows;
    const std::size_t B = shard.members.size();
    rows.B = static_cast<std::int64_t>(B), rows.K = K;
    rows.T = B > 0 ? lengths[index(shard.members[0])] : 0;
    rows.seed = batch.seed, rows.step = batch.step;
    rows.lengths.resize(B), rows.origins.resize(B), rows.sequence_id.resize(B);
    for (std::size_t b = 0; b < B; ++b) {
      const std::size_t i = index(shard.members[b]);
      require(lengths[i] >= 0, "Executor", "lengths", lengths[i], ">= 0");
      rows.lengths[b] = lengths[i];
      rows.origins[b] = batch.origin.empty() ? 0 : batch.origin[i];
      rows.sequence_id[b] = batch.sequence_id[i];
    }
    rows.offsets.resize(index(rows.T) + 1);
    std::int64_t active = rows.B, row = 0;
    for (std::int64_t t = 0; t < rows.T; ++t) {
      while (active > 0 && rows.lengths[index(active - 1)] <= t) --active;
      rows.offsets[index(t)] = static_cast<std::int32_t>(row);
      row += active;
    }
    require(row < (std::int64_t{1} << 31), "Executor", "rows of a batch", row, "below 2^31");
    rows.offsets[index(rows.T)] = static_cast<std::int32_t>(row);
  }

  Operand<Real> operand(const Shard<Real>& shard, const std::vector<std::int64_t>& offsets,
                        NodeId id, Real* base) const {
    const Node& node = scan.graph[id];
    const Storage& s = plan.storage[index(id)];
    Operand<Real> o;
    o.D = node.D, o.kind = node.kind, o.stride = s.stride;
    if (s.parameter) {
      const ParameterView& view = scan.graph[s.root].bias;
      // Read only: nothing writes to a parameter row.
      o.data =
          const_cast<Real*>(values) + parameters[view.parameter].offset + view.begin + s.column;
      return o;
    }
    o.data = base + offsets[index(s.root)] + s.column;
    if (node.kind.base == RowKind::Base::step && !s.local)
      o.scale = node.kind.particles ? shard.rows.K : 1;
    return o;
  }

  void find_places(Shard<Real>& shard) {
    const Capacity capacity{bucket(shard.rows.rows()), bucket(shard.rows.B), K};
    auto found = places.find(capacity);
    if (found == places.end()) found = places.emplace(capacity, place(scan, plan, capacity)).first;
    shard.offsets = &found->second;
  }

  void build(Shard<Real>& shard, Real* gradients) {
    const std::vector<std::int64_t>& offsets = *shard.offsets;
    Real* base = shard.arena.reserve(offsets.back());
    shard.instructions.resize(scan.graph.nodes.size());
    for (std::size_t i = 0; i < scan.graph.nodes.size(); ++i) {
      const Node& node = scan.graph.nodes[i];
      Instruction<Real>& instruction = shard.instructions[i];
      instruction.node = &node;
      instruction.inputs.resize(node.inputs.size());
      for (std::size_t k = 0; k < node.inputs.size(); ++k) {
        instruction.inputs[k] = node.inputs[k] == kNoNode
                                    ? Operand<Real>()
                                    : operand(shard, offsets, node.inputs[k], base);
      }
      instruction.noise = {};
      if (node.op == Op::concat) instruction.placed = plan.placed[i];
      if (node.op == Op::weight_gradient) {
        const Parameter& p = parameters[node.weight.parameter];
        instruction.gradient = gradients + p.offset + node.weight.begin;
        instruction.gradient_stride = p.cols;
        instruction.bias_gradient =
            node.bias.parameter < 0
                ? nullptr
                : gradients + parameters[node.bias.parameter].offset + node.bias.begin;
        continue;
      }
      if (node.op == Op::row_gradient) {
        instruction.gradient = gradients + parameters[node.bias.parameter].offset + node.bias.begin;
        continue;
      }
      instruction.output = operand(shard, offsets, static_cast<NodeId>(i), base);
      if (packed_of[i] >= 0) instruction.weights = &packed[index(packed_of[i])].weights;
      instruction.bias = node.op == Op::linear && node.bias.parameter >= 0
                             ? values + parameters[node.bias.parameter].offset + node.bias.begin
                             : nullptr;
      if (node.op == Op::constant) {
        std::fill_n(instruction.output.data, node.D, static_cast<Real>(node.alpha));
      }
    }
    // Instructions run one after another: they share their scratch.
    std::size_t scratch = 0;
    for (const Instruction<Real>& instruction : shard.instructions) {
      scratch = std::max(scratch, scratch_bytes(instruction, shard.rows));
    }
    std::byte* memory = shard.scratch.reserve(static_cast<std::int64_t>(scratch));
    for (Instruction<Real>& instruction : shard.instructions) instruction.scratch = memory;
  }

  const Real* bound(const ScanBatch<Real>& batch, const std::string& name) const {
    for (const Binding<Real>& binding : batch.bindings) {
      if (binding.name == name) return binding.data;
    }
    throw InvalidArgument("Executor: the input " + name + " is not bound");
  }

  /// Rows of a step input, which stand sequence after sequence, into the shard's packed order.
  void pack_rows(const Shard<Real>& shard, const ScanBatch<Real>& batch, const Real* from,
                 std::int64_t D, Real* to) const {
    for (std::int64_t t = 0; t < shard.rows.T; ++t) {
      Real* out = to + shard.rows.offsets[index(t)] * D;
      for (std::int64_t b = 0; b < shard.rows.active(t); ++b) {
        const std::int64_t row = batch.first_row[index(shard.members[index(b)])] + t;
        std::copy_n(from + row * D, D, out + b * D);
      }
    }
  }

  void fill_inputs(Shard<Real>& shard, const ScanBatch<Real>& batch) {
    for (Instruction<Real>& instruction : shard.instructions) {
      const Node& node = *instruction.node;
      if (node.op == Op::noise_position) {
        for (std::int64_t t = 0; t < shard.rows.T; ++t) {
          for (std::int64_t b = 0; b < shard.rows.active(t); ++b) {
            instruction.output.data[shard.rows.offsets[index(t)] + b] =
                static_cast<Real>(t + shard.rows.origins[index(b)]);
          }
        }
      }
      if (node.op != Op::input) continue;
      const Real* from = bound(batch, node.name);
      const std::int64_t D = node.D, particles = node.kind.particles ? K : 1;
      Real* to = instruction.output.data;
      if (node.kind.base == RowKind::Base::shared) {
        std::copy_n(from, D, to);
      } else if (node.kind.base == RowKind::Base::sequence) {
        for (std::int64_t b = 0; b < shard.rows.B; ++b) {
          std::copy_n(from + shard.members[index(b)] * particles * D, particles * D,
                      to + b * particles * D);
        }
      } else {
        pack_rows(shard, batch, from, D * particles, to);
      }
    }
  }

  std::vector<std::vector<std::vector<Real>>>
      given_noise;  // of each shard, each binding: packed rows

  void fill_noise(std::size_t s, const ScanBatch<Real>& batch) {
    Shard<Real>& shard = shards[s];
    given_noise[s].resize(batch.noise.size());
    for (std::size_t i = 0; i < batch.noise.size(); ++i) {
      const auto found = latents.find(batch.noise[i].name);
      if (found == latents.end())
        throw InvalidArgument("Executor: no latent is called " + batch.noise[i].name);
      const Node& drawn = scan.graph[found->second];
      const std::int64_t particles = drawn.kind.particles ? K : 1, D = drawn.D;
      std::vector<Real>& rows = given_noise[s][i];
      const bool step = drawn.kind.base == RowKind::Base::step;
      rows.resize(index((step ? shard.rows.rows() : shard.rows.B) * particles * D));
      if (step) {
        pack_rows(shard, batch, batch.noise[i].data, D * particles, rows.data());
      } else {
        for (std::int64_t b = 0; b < shard.rows.B; ++b) {
          std::copy_n(batch.noise[i].data + shard.members[index(b)] * particles * D, particles * D,
                      rows.data() + b * particles * D);
        }
      }
      for (Instruction<Real>& instruction : shard.instructions) {
        const Node& node = *instruction.node;
        if ((node.op == Op::gaussian_sample || node.op == Op::gaussian_sample_backward) &&
            node.site == drawn.site) {
          instruction.noise = {rows.data(), D, step ? particles : 0, D, drawn.kind};
        }
      }
    }
  }

  void execute(Shard<Real>& shard) {
    for (const Region& region : scan.schedule.regions) {
      if (!region.loop) {
        for (NodeId id : region.nodes) seqvae::run(shard.instructions[index(id)], shard.rows, -1);
        continue;
      }
      for (std::int64_t s = 0; s < shard.rows.T; ++s) {
        const std::int64_t t = region.backward_in_time ? shard.rows.T - 1 - s : s;
        for (NodeId id : region.nodes) seqvae::run(shard.instructions[index(id)], shard.rows, t);
      }
    }
  }

  template <class Share>
  void on_all_threads(const Share& share) {
    pool.run(pool.count(), std::cref(share));  // a reference: std::function copies no captures
  }

  void run(const ScanBatch<Real>& batch, Real* gradients) {
    if (values == nullptr) throw InvalidArgument("Executor: run before set_parameters");
    if (!scan.graph.sinks.empty()) require_pointer(gradients, "Executor", "gradients");
    deal(batch);
    given_noise.resize(shards.size());
    const std::size_t size = index(parameters.size());
    for (Shard<Real>& shard : shards) find_places(shard);  // shared, so by one thread
    on_all_threads([&](int i) {
      const std::size_t s = index(i);
      Shard<Real>& shard = shards[s];
      Real* sums = gradients;
      if (gradients != nullptr && s > 0) {
        shard.gradients.resize(size);
        sums = shard.gradients.data();
      }
      if (gradients != nullptr) std::fill_n(sums, size, Real{0});
      build(shard, sums);
      if (shard.rows.B == 0) return;
      fill_inputs(shard, batch);
      fill_noise(s, batch);
      execute(shard);
    });
    if (gradients == nullptr || shards.size() == 1) return;
    on_all_threads([&](int i) {  // each thread adds up its share, shards in order
      const std::size_t begin = size * index(i) / shards.size(),
                        end = size * index(i + 1) / shards.size();
      for (std::size_t s = 1; s < shards.size(); ++s) {
        const Real* from = shards[s].gradients.data();
        for (std::size_t p = begin; p < end; ++p) gradients[p] += from[p];
      }
    });
  }

  // --- results --------------------------------------------------------------------------------

  std::int64_t rows_of(const Node& node) const {
    const std::int64_t particles = node.kind.particles ? K : 1;
    if (node.kind.base == RowKind::Base::shared) return 1;
    if (node.kind.base == RowKind::Base::sequence)
      return static_cast<std::int64_t>(lengths.size()) * particles;
    return std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0}) * particles;
  }

  void copy_output(NodeId id, std::span<Real> out) const {
    const Node& node = scan.graph[id];
    require(out.size() == index(rows_of(node) * node.D), "Executor", "elements of the output",
            out.size(), fmt::format("{}", rows_of(node) * node.D));
    const std::int64_t particles = node.kind.particles ? K : 1, D = node.D;
    Real* to = out.data();
    const auto copy_rows = [&](const Operand<Real>& from, std::int64_t row) {
      for (std::int64_t k = 0; k < particles; ++k, to += D) {
        std::copy_n(from.data + (row * particles + k) * from.stride, D, to);
      }
    };
    if (node.kind.base == RowKind::Base::shared) {
      copy_rows(shards[0].instructions[index(id)].output, 0);
      return;
    }
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const Shard<Real>& shard = shards[index(where[i].first)];
      const Operand<Real>& from = shard.instructions[index(id)].output;
      const std::int64_t b = where[i].second;
      if (node.kind.base == RowKind::Base::sequence) {
        copy_rows(from, b);
      } else {
        for (std::int64_t t = 0; t < lengths[i]; ++t)
          copy_rows(from, shard.rows.offsets[index(t)] + b);
      }
    }
  }
};

template <class Real>
Executor<Real>::Executor(Scan scan, const ParameterTable& parameters, ThreadPool& pool,
                         std::int64_t particles)
    : impl_(std::make_unique<Impl>(std::move(scan), parameters, pool, particles)) {}
template <class Real>
Executor<Real>::~Executor() = default;
template <class Real>
Executor<Real>::Executor(Executor&&) noexcept = default;

template <class Real>
void Executor<Real>::set_parameters(const Real* values) {
  require_pointer(values, "Executor", "values");
  Impl& impl = *impl_;
  impl.values = values;
  impl.on_all_threads([&](int i) {
    for (std::size_t p = index(i); p < impl.packed.size(); p += impl.shards.size()) {
      Packed<Real>& packed = impl.packed[p];
      const Parameter& parameter = impl.parameters[packed.view.parameter];
      packed.weights.pack(values + parameter.offset + packed.view.begin, parameter.cols,
                          packed.transposed);
    }
  });
}

template <class Real>
void Executor<Real>::run(const ScanBatch<Real>& batch, Real* gradients) {
  impl_->run(batch, gradients);
}

template <class Real>
bool Executor<Real>::has_output(const std::string& name) const {
  for (const Output& output : impl_->scan.graph.outputs) {
    if (output.name == name) return true;
  }
  return false;
}

template <class Real>
std::int64_t Executor<Real>::width(const std::string& output) const {
  return impl_->scan.graph[impl_->scan.graph.output(output)].D;
}

template <class Real>
std::int64_t Executor<Real>::output_rows(const std::string& name) const {
  return impl_->rows_of(impl_->scan.graph[impl_->scan.graph.output(name)]);
}

template <class Real>
std::vector<Real> Executor<Real>::output(const std::string& name) const {
  std::vector<Real> out(index(output_rows(name) * width(name)));
  copy_output(name, out);
  return out;
}

template <class Real>
void Executor<Real>::copy_output(const std::string& name, std::span<Real> out) const {
  impl_->copy_output(impl_->scan.graph.output(name), out);
}

template <class Real>
const Scan& Executor<Real>::scan() const {
  return impl_->scan;
}
template <class Real>
std::int64_t Executor<Real>::particles() const {
  return impl_->K;
}
template <class Real>
std::size_t Executor<Real>::arena_bytes() const {
  std::size_t bytes = 0;
  for (const auto& shard : impl_->shards) bytes += index(shard.arena.size()) * sizeof(Real);
  return bytes;
}
template <class Real>
std::int64_t Executor<Real>::plan_count() const {
  return static_cast<std::int64_t>(impl_->places.size());
}

template class Executor<float>;
template class Executor<double>;

}  // namespace seqvae
