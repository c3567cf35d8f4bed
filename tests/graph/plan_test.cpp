// Where values stand: each execution writes a stamp (who, which step) into every element of its
// rows, and each read must find the stamp of what it means to read. Apart from the plan's offsets
// nothing of the executor is used: what a read means follows from the graph alone.
#include <gmock/gmock.h>

#include <algorithm>
#include <map>

#include "host/graph/lowering.hpp"
#include "host/graph/plan.hpp"
#include "host/graph/regions.hpp"
#include "seqvae/core/error.hpp"
#include "seqvae/models/model.hpp"
#include "tests/graph/gradient_cases.hpp"
#include "tests/graph/models.hpp"

namespace seqvae::test {
namespace {

class Stamped {
 public:
  Stamped(std::vector<std::int64_t> lengths, std::int64_t particles, const Scan& scan, Loops loops)
      : scan_(scan),
        g_(scan.graph),
        plan_(make_plan(scan, loops)),
        lengths_(std::move(lengths)),
        K_(particles) {
    T_ = lengths_[0];
    offsets_ = {0};
    for (std::int64_t t = 0; t < T_; ++t) offsets_.push_back(offsets_.back() + active(t));
    const Capacity capacity{offsets_.back(), static_cast<std::int64_t>(lengths_.size()), K_, T_};
    places_ = place(scan, plan_, capacity);
    memory_.assign(static_cast<std::size_t>(places_.arena + places_.given), {kNoNode, -1});
  }

  void run() {
    for (std::size_t i = 0; i < g_.nodes.size(); ++i) {  // filled before anything runs
      const Op op = g_.nodes[i].op;
      if (op == Op::input || op == Op::constant || op == Op::noise_position) write_all(id_of(i));
    }
    for (const Region& region : scan_.schedule.regions) {
      if (region.at_once) {  // any may have written when another reads
        for (NodeId id : region.nodes) write_all(id);
        for (NodeId id : region.nodes) read_inputs(id, -1);
        continue;
      }
      if (!region.loop) {
        for (NodeId id : region.nodes) execute(id, -1);
        continue;
      }
      std::vector<NodeId> nodes = region.nodes;  // carries first, as they read the step beside
      std::stable_partition(nodes.begin(), nodes.end(),
                            [&](NodeId id) { return g_[id].op == Op::carry; });
      for (std::int64_t s = 0; s < T_; ++s) {
        for (NodeId id : nodes) execute(id, region.backward_in_time ? T_ - 1 - s : s);
      }
    }
    for (const Output& output : g_.outputs) read_all(output.node, output.node);
  }

 private:
  struct Stamp {
    NodeId who;
    std::int64_t t;
    bool operator==(const Stamp&) const = default;
  };

  static NodeId id_of(std::size_t i) { return static_cast<NodeId>(i); }
  const Storage& storage(NodeId id) const { return plan_.storage[static_cast<std::size_t>(id)]; }
  std::int64_t active(std::int64_t t) const {
    return std::count_if(lengths_.begin(), lengths_.end(), [&](auto length) { return length > t; });
  }
  std::int64_t particles(NodeId id) const { return g_[id].kind.particles ? K_ : 1; }

  /// The node whose execution fills this column of a value.
  NodeId producer(NodeId id, std::int64_t column) const {
    const Node& node = g_[id];
    if (node.op == Op::slice) return producer(node.inputs[0], node.begin + column);
    if (node.op == Op::stop_gradient) return producer(node.inputs[0], column);
    if (node.op != Op::concat) return id;
    const auto& placed = plan_.placed[static_cast<std::size_t>(id)];
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      const std::int64_t D = g_[node.inputs[k]].D;
      if (column < D) return placed[k] ? producer(node.inputs[k], column) : id;
      column -= D;
    }
    return id;
  }

  /// Rows of step t (of all a sequence where it is no step value): first row and count.
  std::pair<std::int64_t, std::int64_t> rows_at(NodeId id, std::int64_t t) const {
    const RowKind kind = g_[id].kind;
    if (kind.base == RowKind::Base::shared) return {0, 1};
    const std::int64_t K = particles(id);
    if (kind.base == RowKind::Base::sequence)
      return {0, static_cast<std::int64_t>(lengths_.size()) * K};
    const std::int64_t first = storage(id).local    ? 0
                               : storage(id).padded ? t * static_cast<std::int64_t>(lengths_.size())
                                                    : offsets_[static_cast<std::size_t>(t)];
    return {first * K, active(t) * K};
  }

  template <class Visit>
  void visit_rows(NodeId id, std::int64_t t, Visit visit) {
    const Storage& s = storage(id);
    if (s.parameter) return;
    const auto [first, count] = rows_at(id, t);
    for (std::int64_t r = 0; r < count; ++r) {
      for (std::int64_t d = 0; d < g_[id].D; ++d) {
        const std::int64_t from = places_.offsets[static_cast<std::size_t>(s.root)];
        const std::int64_t at = from + s.column + (first + r) * s.stride + d;
        ASSERT_GE(from, 0);
        ASSERT_LT(at, s.given ? places_.given : places_.arena);
        visit(memory_[static_cast<std::size_t>(at + (s.given ? places_.arena : 0))], r, d);
      }
    }
  }

  Stamp stamp(NodeId id, std::int64_t t) const {
    return {id, g_[id].kind.base == RowKind::Base::step ? t : 0};
  }

  void write(NodeId id, std::int64_t t) {
    visit_rows(id, t, [&](Stamp& stamp_here, std::int64_t, std::int64_t d) {
      if (producer(id, d) == id) stamp_here = stamp(id, t);
    });
  }
  void write_all(NodeId id) {
    if (g_[id].kind.base != RowKind::Base::step) return write(id, 0);
    for (std::int64_t t = 0; t < T_; ++t) write(id, t);
  }

  /// `rows`: how many of them are read; -1: all.
  void read(NodeId id, std::int64_t t, NodeId reader, std::int64_t rows = -1) {
    visit_rows(id, t, [&](const Stamp& found, std::int64_t r, std::int64_t d) {
      if (rows >= 0 && r >= rows) return;
      const Stamp wanted = stamp(producer(id, d), t);
      ASSERT_TRUE(found == wanted)
          << "%" << reader << " " << to_string(g_[reader].op) << " reads %" << id << " column " << d
          << " of step " << t << " and finds %" << found.who << " of step " << found.t;
    });
  }
  void read_all(NodeId id, NodeId reader) {
    if (g_[id].kind.base != RowKind::Base::step) return read(id, 0, reader);
    for (std::int64_t t = 0; t < T_; ++t) read(id, t, reader);
  }

  void read_inputs(NodeId id, std::int64_t t) {
    for (NodeId input : g_[id].inputs) {
      if (input == kNoNode) continue;
      if (t < 0) {
        read_all(input, id);
      } else {
        read(input, t, id);
      }
    }
  }

  void execute(NodeId id, std::int64_t t) {
    if (testing::Test::HasFatalFailure()) return;
    const Node& node = g_[id];
    switch (node.op) {
      case Op::input:
      case Op::constant:
      case Op::noise_position:
      case Op::parameter_row:
      case Op::slice:
      case Op::stop_gradient:
        return;
      case Op::carry:
        for (std::int64_t step = t < 0 ? 0 : t; step < (t < 0 ? T_ : t + 1); ++step)
          carry(id, step);
        return;
      default:
        break;
    }
    read_inputs(id, t);
    if (node.op == Op::weight_gradient || node.op == Op::row_gradient) return;
    if (t < 0) {
      write_all(id);
    } else {
      write(id, t);
    }
  }

  void carry(NodeId id, std::int64_t t) {
    const Node& node = g_[id];
    const std::int64_t beside = node.backward_in_time ? t + 1 : t - 1;
    if (beside >= 0 && beside < T_) {
      read(node.inputs[0], beside, id, std::min(active(t), active(beside)) * particles(id));
    }
    if (node.inputs[1] != kNoNode) read(node.inputs[1], 0, id);
    write(id, t);
  }

  const Scan& scan_;
  const Graph& g_;
  const Plan plan_;
  std::vector<std::int64_t> lengths_, offsets_;
  Places places_;
  std::int64_t K_, T_ = 0;
  std::vector<Stamp> memory_;
};

/// Whether an op outside of loops reads packed rows alone, and one inside padded ones.
void expect_one_layout(const Scan& scan) {
  for (const Region& region : scan.schedule.regions) {
    for (NodeId id : region.nodes) {
      const Node& node = scan.graph[id];
      if (is_view(node) || node.op == Op::to_padded || node.op == Op::to_packed) continue;
      for (NodeId input : node.inputs) {
        if (input == kNoNode || scan.graph[input].kind.base != RowKind::Base::step) continue;
        ASSERT_EQ(is_padded(scan, input), region.padded)
            << "%" << id << " " << to_string(node.op) << " reads %" << input;
      }
    }
  }
}

/// Products outside of loops are in regions of their own, where none reads another.
void expect_products_at_once(const Scan& scan) {
  for (const Region& region : scan.schedule.regions) {
    if (region.loop) continue;
    for (NodeId id : region.nodes) {
      ASSERT_EQ(is_product(scan.graph[id].op), region.at_once) << "%" << id;
      for (NodeId input : scan.graph[id].inputs) {
        ASSERT_TRUE(!region.at_once || std::ranges::count(region.nodes, input) == 0) << "%" << id;
      }
    }
  }
}

void expect_sound(Scan scan, std::int64_t particles, const std::string& label) {
  SCOPED_TRACE(label);
  Stamped({5, 3, 3, 1}, particles, scan, Loops::packed).run();
  put_gradients_last(scan);
  group_products(scan);
  expect_products_at_once(scan);
  pad_loops(scan);
  expect_one_layout(scan);
  Stamped({5, 3, 3, 1}, particles, scan, Loops::padded).run();
}

class PlanOfSmallScan : public testing::TestWithParam<SmallScan> {};

TEST_P(PlanOfSmallScan, LetsEveryReadFindWhatWasWritten) {
  ParameterTable table;
  expect_sound(GetParam().build(table, true), GetParam().particles, "with gradient");
  ParameterTable other;
  expect_sound(GetParam().build(other, false), GetParam().particles, "without");
}

INSTANTIATE_TEST_SUITE_P(Every, PlanOfSmallScan, testing::ValuesIn(gradient_cases()),
                         [](const auto& info) { return info.param.name; });

TEST(Plan, LetsEveryReadOfEveryModelFindWhatWasWritten) {
  for (const NamedConfiguration& c : small_models()) {
    const auto model =
        make_model(c.model, c.configuration, {.x_width = 3, .controls_width = 2, .missing = true});
    for (int variant = 0; variant < 16; ++variant) {
      ScanOptions options;
      options.gradient = variant % 2 == 1, options.paths = variant / 2 % 2 == 1;
      options.states = options.paths;
      options.hoist = variant / 4 % 2 == 0;
      options.trace.particles = variant / 8 == 1;
      expect_sound(model->scan(options), options.trace.particles ? 2 : 1,
                   c.label + " infer " + std::to_string(variant));
      if (testing::Test::HasFatalFailure()) return;
    }
    for (int variant = 0; variant < 8; ++variant) {
      ScanOptions options;
      options.trace.mode = Mode::generate;
      options.trace.continued = variant % 2 == 1,
      options.trace.draw_observations = variant / 2 % 2 == 1;
      options.trace.particles = variant / 4 == 1;
      expect_sound(model->scan(options), options.trace.particles ? 2 : 1,
                   c.label + " generate " + std::to_string(variant));
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

// The arena is hardly more than what is alive at the fullest moment, and so less than all values.
TEST(Plan, ReusesMemoryOfValuesThatAreDone) {
  const auto model = make_model("dmm", {{"posterior", "ST-R"}}, {.x_width = 88});
  ScanOptions options;
  options.gradient = true;
  const Scan scan = model->scan(options);
  const Plan plan = make_plan(scan, Loops::packed);
  const Capacity capacity{2560, 20, 1};
  std::map<std::int32_t, std::int64_t> grows;  // of a place in the order of execution
  std::int64_t apart = 0;
  for (std::size_t i = 0; i < scan.graph.nodes.size(); ++i) {
    const Storage& s = plan.storage[i];
    const Node& node = scan.graph.nodes[i];
    const bool sink = node.op == Op::weight_gradient || node.op == Op::row_gradient;
    if (s.root != static_cast<std::int32_t>(i) || s.parameter || sink) continue;
    const bool all = node.kind.base == RowKind::Base::step && !s.local;
    const std::int64_t size =
        node.D * (all                                       ? capacity.rows
                  : node.kind.base == RowKind::Base::shared ? 1
                                                            : capacity.sequences);
    apart += size;
    grows[plan.first_use[i]] += size, grows[plan.last_use[i] + 1] -= size;
  }
  std::int64_t alive = 0, most = 0;
  for (const auto& [place, growth] : grows) most = std::max(most, alive += growth);
  const std::int64_t arena = place(scan, plan, capacity).arena;
  EXPECT_GE(arena, most);
  EXPECT_LE(arena * 20, most * 21);
  EXPECT_LE(arena * 5, apart * 4);
  // As a device runs it: products at once, loops as chains.
  Scan grouped = scan;
  put_gradients_last(grouped);
  group_products(grouped);
  pad_loops(grouped, std::vector<bool>(grouped.schedule.regions.size(), true));
  const Places places =
      place(grouped, make_plan(grouped, Loops::padded), {capacity.rows, 20, 1, capacity.rows});
  EXPECT_LE(places.arena * 4, arena * 5);
}

}  // namespace
}  // namespace seqvae::test
