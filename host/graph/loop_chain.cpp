#include "host/graph/loop_chain.hpp"

#include <algorithm>
#include <numeric>

#include "seqvae/core/error.hpp"
#include "seqvae/core/index.hpp"

namespace seqvae {
namespace {

template <class Real>
class Builder {
 public:
  Builder(const Scan& scan, const Region& region, const Plan& plan, const ScanRows<Real>& rows)
      : scan_(scan), region_(region), plan_(plan), sequences_(rows.B), rows_(rows) {
    // A batch of no sequence too says how far steps lie apart.
    rows_.B = std::max<std::int64_t>(rows.B, 1);
    for (std::int64_t t = 0; t <= rows_.T; ++t) {
      first_.push_back(static_cast<std::int32_t>(t * rows_.B));
    }
    rows_.first = first_.data();
    slots_.column.assign(scan.graph.nodes.size(), -1);
    std::int64_t columns = 0;
    for (NodeId id : region.nodes) {
      const std::int32_t root = plan.storage[index(id)].root;
      if (!mine(root) || slots_.column[index(root)] >= 0) continue;
      slots_.column[index(root)] = columns;
      columns += (scan.graph[root].D + 3) / 4 * 4;
    }
    slots_.memory.resize(index(columns));
  }

  LoopChain<Real> build(const Places& places, const ParameterTable& parameters,
                        const PackedParameters<Real>* packed, ScanMemory<Real> memory,
                        const GivenNoise<Real>& noise) {
    if (!one_kind()) return {"values a sequence and values a particle are mixed", {}, {}};
    if (carries_what_has_no_slot()) return {"a carry is of no value of this loop's own", {}, {}};
    make_instructions(scan_, plan_, places, parameters, packed, memory, rows_.K, outside_);
    memory.slots = &slots_;
    make_instructions(scan_, plan_, places, parameters, packed, memory, rows_.K, inside_);
    for (const auto& [drawn, rows] : noise) give_noise(inside_, *drawn, rows);

    const std::int64_t first = region_.backward_in_time ? rows_.T - 1 : 0;
    const std::int64_t on = region_.backward_in_time ? -1 : 1;
    const auto starts = carries(first), later = carries(first + on),
               after = carries(first + 2 * on);
    const auto here = body(first), next = body(first + on);
    if (!why_not_.empty()) return {why_not_, {}, {}};
    const auto products = std::count_if(here.begin(), here.end(), [](const auto& call) {
      return std::holds_alternative<DenseArgs<Real>>(call);
    });
    if (products > ChainArgs<Real>::kProducts) {
      return {fmt::format("{} products a step, more than {}", products, ChainArgs<Real>::kProducts),
              {},
              {}};
    }

    LoopChain<Real> chain;
    ChainArgs<Real>& args = chain.args;
    args.T = rows_.T, args.time = on, args.offsets = rows_.offsets;
    args.K = scan_.graph[region_.nodes[0]].kind.particles ? rows_.K : 1;
    args.rows = sequences_ * args.K, args.capacity = rows_.R * args.K;
    args.columns = static_cast<std::int64_t>(slots_.memory.size());
    args.starts = append(starts, starts, first, chain.table);
    args.carries = append(later, after, first + on, chain.table);
    args.stages = append(here, next, first, chain.table);
    arrange_chain(chain.table.data(), args);
    return chain;
  }

 private:
  using Calls = std::vector<typename ChainRecorder<Real>::Arguments>;

  /// Whether a value is made in this loop.
  bool mine(std::int32_t root) const {
    const std::int32_t region = scan_.schedule.region_of[index(root)];
    const Node& node = scan_.graph[root];
    return &scan_.schedule.regions[index(region)] == &region_ &&
           node.kind.base == RowKind::Base::step && !is_given(node);
  }

  bool one_kind() const {
    const RowKind kind = scan_.graph[region_.nodes[0]].kind;
    return std::all_of(region_.nodes.begin(), region_.nodes.end(),
                       [&](NodeId id) { return scan_.graph[id].kind == kind; });
  }

  /// A carry of a carry wants what the first one held before, whose slot has been written over; one
  /// of a value of another loop the packed rows of the step before.
  bool carries_what_has_no_slot() const {
    std::vector<bool> holds_carry(scan_.graph.nodes.size(), false);
    for (NodeId id : region_.nodes) {
      if (scan_.graph[id].op == Op::carry) holds_carry[index(plan_.storage[index(id)].root)] = true;
    }
    return std::any_of(region_.nodes.begin(), region_.nodes.end(), [&](NodeId id) {
      if (scan_.graph[id].op != Op::carry) return false;
      const std::int32_t next = plan_.storage[index(scan_.graph[id].inputs[0])].root;
      return holds_carry[index(next)] || !mine(next);
    });
  }

  Calls record(std::int64_t t, bool carries) {
    ChainRecorder<Real> recorder;
    ScanRows<Real> rows = rows_;
    rows.recorder = &recorder;
    for (NodeId id : region_.nodes) {
      const Node& node = scan_.graph[id];
      const bool kalman = is_kalman(node.op);  // which would run at once
      if ((node.op == Op::carry) == carries && !kalman) execute(inside_[index(id)], rows, t);
      if ((kalman || !recorder.all_are_stages) && why_not_.empty()) {
        why_not_ = std::string(to_string(node.op)) + " is no stage of a chain";
      }
    }
    if (!carries) store(rows, t);
    return std::move(recorder.calls);
  }
  Calls carries(std::int64_t t) { return record(t, true); }
  Calls body(std::int64_t t) { return record(t, false); }

  /// What others read of this loop leaves the slots at the end of a step.
  void store(const ScanRows<Real>& rows, std::int64_t t) {
    for (NodeId id : region_.nodes) {
      const Storage& storage = plan_.storage[index(id)];
      if (storage.root != id || storage.local || !mine(id)) continue;
      const Node& node = scan_.graph[id];
      const Call<Real> inside{inside_[index(id)], rows, t, rows.rows(node.kind, t)};
      const Call<Real> outside{outside_[index(id)], rows, t, inside.rows};
      inside.run(MultiplyAddArgs<Real>{
          .rows = inside.rows, .D = node.D, .a = inside.out(), .y = outside.out()});
    }
  }

  /// Calls at step t and at the one taken after it.
  std::int64_t append(const Calls& first, const Calls& next, std::int64_t t,
                      std::vector<ChainStage<Real>>& table) const {
    require(first.size() == next.size(), "chain", "calls of a step", next.size(),
            fmt::format("{} as those of the step before", first.size()));
    ChainFrame<Real> frame;
    frame.slots = slots_.memory.data();
    frame.columns = static_cast<std::int64_t>(slots_.memory.size());
    frame.B = rows_.B, frame.K = scan_.graph[region_.nodes[0]].kind.particles ? rows_.K : 1;
    frame.t = t, frame.time = region_.backward_in_time ? -1 : 1;
    frame.fixed = rows_.goes_on, frame.fixed_count = rows_.T * rows_.B * rows_.K;
    for (std::size_t i = 0; i < first.size(); ++i) {
      table.push_back(std::visit(
          [&]<class Args>(const Args& args) {
            return chain_stage(args, std::get<Args>(next[i]), frame);
          },
          first[i]));
    }
    return static_cast<std::int64_t>(first.size());
  }

  const Scan& scan_;
  const Region& region_;
  const Plan& plan_;
  std::int64_t sequences_;
  ScanRows<Real> rows_;
  std::vector<std::int32_t> first_;
  LoopSlots<Real> slots_;
  std::vector<Instruction<Real>> outside_, inside_;
  std::string why_not_;
};

}  // namespace

template <class Real>
LoopChain<Real> make_loop_chain(const Scan& scan, const Region& region, const Plan& plan,
                                const Places& places, const ParameterTable& parameters,
                                const PackedParameters<Real>* packed,
                                const ScanMemory<Real>& memory, const ScanRows<Real>& rows,
                                const GivenNoise<Real>& noise) {
  return Builder<Real>(scan, region, plan, rows).build(places, parameters, packed, memory, noise);
}

template <class Real>
std::vector<std::string> why_not_chains(const Scan& scan, const ParameterTable& parameters,
                                        const Queue& queue, std::int64_t particles) {
  Scan trial = scan;
  pad_loops(trial, std::vector<bool>(trial.schedule.regions.size(), true));
  const Plan plan = make_plan(trial, Loops::padded);
  const std::int64_t T = bucket(1);
  const Places places = place(trial, plan, {T, 1, particles, T});
  std::vector<std::int32_t> first(index(T) + 1);
  std::iota(first.begin(), first.end(), 0);
  // Addresses alone: nothing is read or written.
  std::vector<Real> arena(index(places.arena) + 16), given(index(places.given) + 16),
      values(index(parameters.size())), goes_on(index(T * particles));
  ScanRows<Real> rows;
  rows.queue = &queue, rows.T = rows.R = T, rows.B = 1, rows.K = particles;
  rows.first = rows.offsets = first.data();
  rows.nothing = arena.data() + places.arena, rows.goes_on = goes_on.data();
  const ScanMemory<Real> memory{arena.data(), given.data(), values.data(), values.data()};
  std::vector<std::string> reasons;
  for (const Region& region : trial.schedule.regions) {
    reasons.push_back("it is no loop");
    if (!region.loop) continue;
    const LoopChain<Real> chain =
        make_loop_chain<Real>(trial, region, plan, places, parameters, nullptr, memory, rows, {});
    reasons.back() = chain.why_not;
    if (chain.why_not.empty() && !chain_fits(chain.args, queue)) {
      reasons.back() =
          fmt::format("{} columns of a row do not fit a block's shared memory", chain.args.columns);
    }
  }
  return reasons;
}

#define SEQVAE_INSTANTIATE(Real)                                                                   \
  template LoopChain<Real> make_loop_chain(const Scan&, const Region&, const Plan&, const Places&, \
                                           const ParameterTable&, const PackedParameters<Real>*,   \
                                           const ScanMemory<Real>&, const ScanRows<Real>&,         \
                                           const GivenNoise<Real>&);                               \
  template std::vector<std::string> why_not_chains<Real>(const Scan&, const ParameterTable&,       \
                                                         const Queue&, std::int64_t);
SEQVAE_INSTANTIATE(float)
SEQVAE_INSTANTIATE(double)
#undef SEQVAE_INSTANTIATE

}  // namespace seqvae
