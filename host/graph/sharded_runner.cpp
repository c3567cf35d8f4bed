// A scan on the CPU: sequences dealt to threads, each its own for all steps.
#include <algorithm>
#include <functional>
#include <map>
#include <new>

#include "host/graph/regions.hpp"
#include "host/graph/scan_runner.hpp"
#include "seqvae/core/index.hpp"

namespace seqvae {
namespace {

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

template <class Real>
struct Shard {
  Sequences sequences;
  ScanRows<Real> rows;
  std::uint64_t step = 0;
  Arena<Real> arena;
  Arena<std::byte> scratch;
  const Places* places = nullptr;  ///< of each node's root, as planned
  std::vector<Instruction<Real>> instructions;
  std::vector<Real> gradients;                 ///< of all shards but the first
  std::vector<std::vector<Real>> given_noise;  ///< of each binding: packed rows
};

template <class Real>
class ShardedRunner : public ScanRunner<Real> {
 public:
  ShardedRunner(Scan scan, const ParameterTable& parameters, ThreadPool& pool,
                std::int64_t particles)
      : ScanRunner<Real>(std::move(scan), parameters, particles),
        pool_(pool),
        plan_(make_plan(scan_, Loops::packed)),
        packed_(scan_, parameters_),
        shards_(index(pool_.count())) {
    put_carries_first(scan_);
  }

  void set_parameters(const Real* values) override {
    values_ = values;
    on_all_threads([&](int i) { packed_.pack(values, index(i), shards_.size()); });
  }

  void copy_output(NodeId id, Real* out) const override {
    const Node& node = scan_.graph[id];
    const std::int64_t particles = this->particles(node), D = node.D;
    const auto copy_rows = [&](const Operand<Real>& from, std::int64_t row) {
      for (std::int64_t k = 0; k < particles; ++k, out += D) {
        std::copy_n(from.data + (row * particles + k) * from.stride, D, out);
      }
    };
    if (node.kind.base == RowKind::Base::shared) {
      copy_rows(shards_[0].instructions[index(id)].output, 0);
      return;
    }
    for (std::size_t i = 0; i < lengths_.size(); ++i) {
      const Shard<Real>& shard = shards_[index(where_[i].first)];
      const Operand<Real>& from = shard.instructions[index(id)].output;
      const std::int64_t b = where_[i].second;
      if (node.kind.base == RowKind::Base::sequence) {
        copy_rows(from, b);
      } else {
        for (std::int64_t t = 0; t < lengths_[i]; ++t) {
          copy_rows(from, shard.sequences.offsets[index(t)] + b);
        }
      }
    }
  }

  std::size_t arena_bytes() const override {
    std::size_t bytes = 0;
    for (const Shard<Real>& shard : shards_) bytes += index(shard.arena.size()) * sizeof(Real);
    return bytes;
  }
  std::int64_t plan_count() const override { return static_cast<std::int64_t>(places_.size()); }

 private:
  using ScanRunner<Real>::scan_;
  using ScanRunner<Real>::parameters_;
  using ScanRunner<Real>::K_;
  using ScanRunner<Real>::values_;
  using ScanRunner<Real>::lengths_;

  void run_checked(const ScanBatch<Real>& batch, Real* gradients) override {
    deal(batch);
    const std::size_t size = index(parameters_.size());
    for (Shard<Real>& shard : shards_) find_places(shard);  // shared, so by one thread
    on_all_threads([&](int i) {
      const std::size_t s = index(i);
      Shard<Real>& shard = shards_[s];
      Real* sums = gradients;
      if (gradients != nullptr && s > 0) {
        shard.gradients.resize(size);
        sums = shard.gradients.data();
      }
      if (gradients != nullptr) std::fill_n(sums, size, Real{0});
      build(shard, sums);
      if (shard.rows.B == 0) return;
      fill_inputs(shard, batch);
      fill_noise(shard, batch);
      for (const Region& region : scan_.schedule.regions) {
        execute(region, shard.instructions, shard.rows);
      }
    });
    if (gradients == nullptr || shards_.size() == 1) return;
    on_all_threads([&](int i) {  // each thread adds up its share, shards in order
      const std::size_t begin = size * index(i) / shards_.size(),
                        end = size * index(i + 1) / shards_.size();
      for (std::size_t s = 1; s < shards_.size(); ++s) {
        const Real* from = shards_[s].gradients.data();
        for (std::size_t p = begin; p < end; ++p) gradients[p] += from[p];
      }
    });
  }

  void deal(const ScanBatch<Real>& batch) {
    sort_by_length(batch.lengths, order_);
    where_.resize(order_.size());
    for (Shard<Real>& shard : shards_) shard.sequences.members.clear();
    for (std::size_t i = 0; i < order_.size(); ++i) {
      const std::size_t s = i % shards_.size();
      std::vector<std::int32_t>& members = shards_[s].sequences.members;
      where_[index(order_[i])] = {static_cast<std::int32_t>(s),
                                  static_cast<std::int32_t>(members.size())};
      members.push_back(order_[i]);
    }
    for (Shard<Real>& shard : shards_) lay_out(shard, batch);
  }

  void lay_out(Shard<Real>& shard, const ScanBatch<Real>& batch) {
    static const Real nothing = 0;
    Sequences& sequences = shard.sequences;
    sequences.lay_out(batch);
    shard.step = batch.step;
    ScanRows<Real>& rows = shard.rows;
    rows.queue = &queue_;
    rows.T = sequences.T, rows.B = sequences.B(), rows.K = K_, rows.R = sequences.rows();
    rows.offsets = rows.first = sequences.offsets.data();
    rows.origins = sequences.origins.data(), rows.sequence_id = sequences.sequence_id.data();
    rows.seed = batch.seed, rows.step = &shard.step, rows.nothing = &nothing;
  }

  void find_places(Shard<Real>& shard) {
    const Capacity capacity{bucket(shard.rows.R), bucket(shard.rows.B), K_};
    auto found = places_.find(capacity);
    if (found == places_.end())
      found = places_.emplace(capacity, place(scan_, plan_, capacity)).first;
    shard.places = &found->second;
  }

  void build(Shard<Real>& shard, Real* gradients) {
    ScanMemory<Real> memory;
    memory.arena = shard.arena.reserve(shard.places->arena);
    memory.values = values_, memory.gradients = gradients;
    make_instructions(scan_, plan_, *shard.places, parameters_, &packed_, memory, K_,
                      shard.instructions);
    const std::size_t bytes = scratch_bytes(shard.instructions, shard.rows);
    std::byte* scratch = shard.scratch.reserve(static_cast<std::int64_t>(bytes));
    for (Instruction<Real>& instruction : shard.instructions) {
      instruction.scratch = scratch, instruction.scratch_bytes = bytes;
    }
  }

  void fill_inputs(Shard<Real>& shard, const ScanBatch<Real>& batch) {
    const Sequences& sequences = shard.sequences;
    for (Instruction<Real>& instruction : shard.instructions) {
      const Node& node = *instruction.node;
      Real* to = instruction.output.data;
      if (node.op == Op::constant) std::fill_n(to, node.D, static_cast<Real>(node.alpha));
      if (node.op == Op::noise_position) {
        for (std::int64_t t = 0; t < sequences.T; ++t) {
          for (std::int64_t b = 0; b < sequences.active(t); ++b) {
            to[sequences.offsets[index(t)] + b] =
                static_cast<Real>(t + sequences.origins[index(b)]);
          }
        }
      }
      if (node.op == Op::input) {
        bring(shard, node, bound(batch, node.name), to);
      }
    }
  }

  void bring(const Shard<Real>& shard, const Node& node, const Real* from, Real* to) const {
    const Sequences& sequences = shard.sequences;
    const std::int64_t D = node.D * this->particles(node);
    if (node.kind.base == RowKind::Base::shared) {
      std::copy_n(from, D, to);
    } else if (node.kind.base == RowKind::Base::sequence) {
      sequences.bring_sequences(from, D, to);
    } else {
      sequences.bring_steps(
          from, D, [&](std::int64_t t) { return sequences.offsets[index(t)]; }, to);
    }
  }

  void fill_noise(Shard<Real>& shard, const ScanBatch<Real>& batch) {
    shard.given_noise.resize(batch.noise.size());
    for (std::size_t i = 0; i < batch.noise.size(); ++i) {
      const Node& drawn = scan_.graph[latent_of(scan_, batch.noise[i].name)];
      const std::int64_t particles = this->particles(drawn), D = drawn.D;
      const bool step = drawn.kind.base == RowKind::Base::step;
      std::vector<Real>& rows = shard.given_noise[i];
      rows.resize(index((step ? shard.rows.R : shard.rows.B) * particles * D));
      bring(shard, drawn, batch.noise[i].data, rows.data());
      give_noise(shard.instructions, drawn,
                 Operand<Real>{rows.data(), D, step ? particles : 0, D, drawn.kind});
    }
  }

  template <class Share>
  void on_all_threads(const Share& share) {
    pool_.run(pool_.count(), std::cref(share));  // a reference: std::function copies no captures
  }

  ThreadPool& pool_;
  Queue queue_{Device::cpu()};
  Plan plan_;
  PackedParameters<Real> packed_;
  std::vector<Shard<Real>> shards_;
  std::map<Capacity, Places> places_;
  std::vector<std::int32_t> order_;
  std::vector<std::pair<std::int32_t, std::int32_t>> where_;  // of a sequence: shard, place in it
};

}  // namespace

template <class Real>
std::unique_ptr<ScanRunner<Real>> make_sharded_runner(Scan scan, const ParameterTable& parameters,
                                                      ThreadPool& pool, std::int64_t particles) {
  return std::make_unique<ShardedRunner<Real>>(std::move(scan), parameters, pool, particles);
}
template std::unique_ptr<ScanRunner<float>> make_sharded_runner(Scan, const ParameterTable&,
                                                                ThreadPool&, std::int64_t);
template std::unique_ptr<ScanRunner<double>> make_sharded_runner(Scan, const ParameterTable&,
                                                                 ThreadPool&, std::int64_t);

}  // namespace seqvae
