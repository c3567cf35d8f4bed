// What runs in a loop, what before and after it, and which steps are refused.
#include "seqvae/graph/schedule.hpp"

#include <gmock/gmock.h>

#include <algorithm>

#include "seqvae/core/error.hpp"
#include "tests/graph/gradient_cases.hpp"
#include "tests/graph/models.hpp"

namespace seqvae::test {
namespace {

using testing::HasSubstr;

/// Products in the loop that holds the draw of `latent`, or -1 where the draw is in no loop.
std::int64_t products_beside(const Scan& scan, const std::string& latent) {
  for (const Region& region : scan.schedule.regions) {
    const auto is_draw = [&](NodeId id) {
      return scan.graph[id].op == Op::gaussian_sample && scan.graph[id].name == latent;
    };
    if (!std::any_of(region.nodes.begin(), region.nodes.end(), is_draw)) continue;
    if (!region.loop) return -1;
    return std::count_if(region.nodes.begin(), region.nodes.end(),
                         [&](NodeId id) { return scan.graph[id].op == Op::linear; });
  }
  return -1;
}

std::int64_t loops(const Scan& scan) {
  return std::count_if(scan.schedule.regions.begin(), scan.schedule.regions.end(),
                       [](const Region& region) { return region.loop; });
}

Scan infer(const std::string& name, const io::Json& configuration) {
  DataShape shape;
  shape.x_width = 88, shape.emission = Emission::Kind::bernoulli;
  return make_model(name, configuration, shape)->scan({});
}

const io::Json kDmm = {
    {"z", 100}, {"emission", 100}, {"transition", 200}, {"rnn", 600}, {"posterior", "ST-R"}};

// The combiner's two maps of z: transition and emission run after the loop, the encoder before.
TEST(Schedule, LeavesTwoProductsInTheLoopOfTheDeepMarkovModel) {
  const Scan scan = infer("dmm", kDmm);
  EXPECT_EQ(products_beside(scan, "z"), 2);
  EXPECT_EQ(loops(scan), 2);  // the encoder backward in time, the posterior forward
}

// Both maps of the encoder's hidden part, phi_z, and the GRU's maps of phi_z and of h.
TEST(Schedule, LeavesFiveProductsInTheLoopOfTheVariationalRnn) {
  const Scan scan = infer("vrnn", {{"hidden", 100}, {"z", 100}});
  EXPECT_EQ(products_beside(scan, "z"), 5);
  EXPECT_EQ(loops(scan), 1);
}

TEST(Schedule, HoistsTheDrawOfAMeanFieldPosterior) {
  io::Json configuration = kDmm;
  configuration["posterior"] = "MF-R";
  const Scan scan = infer("dmm", configuration);
  EXPECT_EQ(products_beside(scan, "z"), -1);
  EXPECT_EQ(loops(scan), 1);
}

TEST(Schedule, HoistsAllWeightGradients) {
  for (const NamedConfiguration& c : small_models()) {
    ScanOptions options;
    options.gradient = true;
    const Scan scan = make_model(c.model, c.configuration, {.x_width = 3})->scan(options);
    for (const Region& region : scan.schedule.regions) {
      if (!region.loop) continue;
      for (NodeId id : region.nodes) {
        const Op op = scan.graph[id].op;
        EXPECT_TRUE(op != Op::weight_gradient && op != Op::row_gradient) << c.label;
      }
    }
  }
}

TEST(Schedule, PutsEachNodeInOneRegionAfterItsInputs) {
  for (const SmallScan& small : gradient_cases()) {
    SCOPED_TRACE(small.name);
    ParameterTable table;
    const Scan scan = small.build(table, true);
    std::vector<std::int64_t> place(scan.graph.nodes.size(), -1);
    std::int64_t now = 0;
    for (const Region& region : scan.schedule.regions) {
      for (NodeId id : region.nodes) {
        EXPECT_EQ(place[static_cast<std::size_t>(id)], -1) << "twice";
        place[static_cast<std::size_t>(id)] = now++;
      }
    }
    EXPECT_EQ(now, static_cast<std::int64_t>(place.size()));
    for (std::size_t i = 0; i < place.size(); ++i) {
      const Node& node = scan.graph.nodes[i];
      for (std::size_t k = 0; k < node.inputs.size(); ++k) {
        const NodeId input = node.inputs[k];
        if (input == kNoNode) continue;
        const auto& region_of = scan.schedule.region_of;
        const bool delayed = node.op == Op::carry && k == 0 &&
                             region_of[i] == region_of[static_cast<std::size_t>(input)] &&
                             scan.schedule.regions[static_cast<std::size_t>(region_of[i])].loop;
        EXPECT_TRUE(delayed || place[static_cast<std::size_t>(input)] < place[i]);
      }
    }
  }
}

TEST(Schedule, NamesTheCycleThatRunsBothWaysInTime) {
  ParameterTable p;
  const nn::Linear on(p, "on", 2, 2), out(p, "out", 4, 4), emission(p, "emission", 2, kX);
  ScanOptions options;
  options.trace.x_width = kX;
  const StepFunction step = [&](Step& s) {
    const Var before = s.carry("z", 2), ahead = s.carry_back("summary", 2);
    const Var z =
        s.latent("z", standard_normal(s, 2),
                 gaussian_head(s, out(s, concat({before, ahead})), ScaleMap::softplus_std));
    s.next("z", z);
    s.next_back("summary", add(s, z, on(s, ahead)));  // the posterior reads what hangs on z
    score(s, emission(s, z));
  };
  EXPECT_THAT([&] { trace_scan(step, p, options); },
              testing::ThrowsMessage<InvalidArgument>(
                  "graph: a cycle runs in both directions of time: forward through z, backward "
                  "through summary"));
}

TEST(Schedule, NamesTheCarryWhoseCycleTakesAWholeSequence) {
  ParameterTable p;
  const nn::Linear in(p, "in", 2, 2), emission(p, "emission", 2, kX);
  ScanOptions options;
  options.trace.x_width = kX;
  const StepFunction step = [&](Step& s) {
    const Var a = s.carry("a", 2);
    s.next("a", in(s, a));
    const Var b = s.carry("b", 2, s.final("a"));
    s.next("b", in(s, b));
    score(s, emission(s, b));
  };
  EXPECT_NO_THROW(trace_scan(step, p, options));
  // A sequence's last value inside its own recurrence.
  Graph g;
  const NodeId h = add_carry(g, "h", RowKind::step(), 1, kNoNode, false);
  Node last;
  last.op = Op::last, last.kind = RowKind::sequence(), last.D = 1, last.inputs = {h};
  g[h].inputs[0] = broadcast(g, g.add(std::move(last)), RowKind::step());
  g.outputs = {{"h", h}};
  EXPECT_THAT([&] { make_schedule(g); },
              testing::ThrowsMessage<InvalidArgument>(
                  "graph: last takes a whole sequence, yet lies on the cycle of the carries: h"));
}

TEST(Schedule, IsPrintedForAReader) {
  ParameterTable table;
  const SmallScan small = small_step("gru", [](ParameterTable& p) {
    const nn::Encoder rnn(p, "rnn", nn::Encoder::Cell::gru, kControls, 4, true, 0);
    const nn::Linear out(p, "out", 4, kX);
    return [=](Step& s) { score(s, out(s, rnn(s, s.input("controls")))); };
  });
  const Scan scan = small.build(table, false);
  const std::string text = describe(scan.graph, scan.schedule, table.names());
  EXPECT_THAT(text, HasSubstr("hoisted before\n"));
  EXPECT_THAT(text, HasSubstr("loop, backward in time\n"));
  EXPECT_THAT(text, HasSubstr("hoisted after\n"));
  EXPECT_THAT(text, HasSubstr("rnn.weight_hh_l0[:, 0:4] rnn.bias_hh_l0"));
}

// --- words of a step -----------------------------------------------------------------------------

class Words : public testing::Test {
 protected:
  Scan trace(const StepFunction& step, Mode mode = Mode::infer) {
    ScanOptions options;
    options.trace.x_width = kX, options.trace.mode = mode;
    return trace_scan(step, p_, options);
  }
  static bool reads(const Scan& scan, const std::string& input) {
    return std::any_of(scan.graph.nodes.begin(), scan.graph.nodes.end(), [&](const Node& node) {
      return node.op == Op::input && node.name == input;
    });
  }
  ParameterTable p_;
};

TEST_F(Words, RefuseTheFinalOfWhatIsNoCarry) {
  EXPECT_THAT([&] { trace([](Step& s) { s.final("h"); }); },
              testing::ThrowsMessage<InvalidArgument>("step: final of h, which is no carry"));
  EXPECT_THAT([&] { trace([](Step& s) { s.carry("h", 2), s.final("h"); }); },
              testing::ThrowsMessage<InvalidArgument>("step: final of h before its next"));
}

TEST_F(Words, RefuseCarriesLeftOpenOrClosedTwice) {
  EXPECT_THAT([&] { trace([](Step& s) { s.carry("h", 2); }); },
              testing::ThrowsMessage<InvalidArgument>("step: the carry h has no next"));
  EXPECT_THAT([&] { trace([](Step& s) { s.carry("h", 2), s.carry("h", 2); }); },
              testing::ThrowsMessage<InvalidArgument>("step: two carries are called h"));
  EXPECT_THAT(
      [&] { trace([](Step& s) { s.next("h", s.carry("h", 2)), s.next("h", zeros(s, 2)); }); },
      testing::ThrowsMessage<InvalidArgument>("step: two nexts of the carry h"));
  EXPECT_THAT([&] { trace([](Step& s) { s.carry("h", 2), s.next_back("h", zeros(s, 2)); }); },
              testing::ThrowsMessage<InvalidArgument>(
                  "step: next of h, which is no carry of that direction"));
  EXPECT_THAT(
      [&] { trace([](Step& s) { s.carry("h", 2), s.next("h", zeros(s, 3)); }); },
      testing::ThrowsMessage<InvalidArgument>("step: columns of the next of h = 3, must be 2"));
}

TEST_F(Words, ShiftTheDataOfAPreviousStepAndCarryItsDraw) {
  const nn::Linear f(p_, "f", kX, kX);
  const StepFunction step = [&](Step& s) { score(s, f(s, s.previous("x"))); };
  const Scan infer = trace(step);
  EXPECT_EQ(loops(infer), 0);  // data is there before anything runs
  EXPECT_TRUE(reads(infer, "x"));
  const Scan generate = trace(step, Mode::generate);
  EXPECT_EQ(loops(generate), 1);  // each draw is read by the next step
  EXPECT_FALSE(reads(generate, "x"));
}

TEST_F(Words, DropTheEncoderWhereStepsAreGenerated) {
  for (const NamedConfiguration& c : small_models()) {
    SCOPED_TRACE(c.label);
    const auto model = make_model(c.model, c.configuration, {.x_width = 3, .missing = true});
    ScanOptions options;
    options.trace.mode = Mode::generate;
    const Scan scan = model->scan(options);
    EXPECT_FALSE(reads(scan, "x"));
    for (const Node& node : scan.graph.nodes) {
      EXPECT_NE(node.op, Op::absent);
      EXPECT_FALSE(node.op == Op::carry && node.backward_in_time);
      if (node.op != Op::linear) continue;
      const std::string name = model->parameters()[node.weight.parameter].name;
      for (const char* encoder : {"combiner", "rnn", "encoder", "posterior"})
        EXPECT_FALSE(name.starts_with(encoder)) << name;
    }
  }
}

TEST_F(Words, RefuseToGenerateWhatReadsItsOwnData) {
  const nn::Linear f(p_, "f", kX, kX);
  EXPECT_THAT([&] { trace([&](Step& s) { score(s, f(s, s.input("x"))); }, Mode::generate); },
              testing::ThrowsMessage<InvalidArgument>(
                  "graph: the step reads x, which a generated step does not have"));
}

}  // namespace
}  // namespace seqvae::test
