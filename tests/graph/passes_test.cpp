// Each pass alone, on graphs small enough to count.
#include "seqvae/graph/passes.hpp"

#include <gmock/gmock.h>

#include <algorithm>

#include "seqvae/core/error.hpp"
#include "seqvae/graph/schedule.hpp"

namespace seqvae::test {
namespace {

class Passes : public testing::Test {
 protected:
  NodeId data(const std::string& name = "u", std::int64_t D = 2) {
    return add_input(g_, name, RowKind::step(), D);
  }
  static ParameterView weight(std::int32_t parameter, std::int64_t cols = 2) {
    return {parameter, 0, cols};
  }
  std::int64_t count(Op op) const {
    return std::count_if(g_.nodes.begin(), g_.nodes.end(),
                         [&](const Node& node) { return node.op == op; });
  }
  NodeId draw(NodeId mu, std::uint32_t site) {
    Node node;
    node.op = Op::gaussian_sample, node.D = g_[mu].D, node.site = site, node.name = "z";
    node.inputs = {mu, mu};
    return add_rowwise(g_, std::move(node));
  }
  void keep(NodeId node) { g_.outputs.push_back({"out" + std::to_string(node), node}); }
  std::string printed() const { return describe(g_, make_schedule(g_), {"W0", "W1", "W2"}); }

  Graph g_;
};

TEST_F(Passes, EqualNodesBecomeOne) {
  const NodeId u = data();
  const NodeId a = add_activation(g_, Activation::tanh, add_linear(g_, u, weight(0), 3));
  const NodeId b = add_activation(g_, Activation::tanh, add_linear(g_, u, weight(0), 3));
  const NodeId other = add_activation(g_, Activation::tanh, add_linear(g_, u, weight(1), 3));
  keep(add_multiply_add(g_, 1, a, b, 1, other));
  share_common_subexpressions(g_);
  drop_dead(g_);
  EXPECT_EQ(count(Op::linear), 2) << printed();
  EXPECT_EQ(count(Op::activation), 2) << printed();
}

TEST_F(Passes, NodesThatDifferInOneFieldStayTwo) {
  const NodeId u = data("u", 4);
  const std::vector<NodeId> distinct = {add_slice(g_, u, 0, 2),
                                        add_slice(g_, u, 1, 2),
                                        add_slice(g_, u, 0, 3),
                                        add_activation(g_, Activation::tanh, u),
                                        add_activation(g_, Activation::relu, u),
                                        add_multiply_add(g_, 1, u, kNoNode, 0, kNoNode),
                                        add_multiply_add(g_, 2, u, kNoNode, 0, kNoNode),
                                        add_linear(g_, u, {0, 0, 4}, 3),
                                        add_linear(g_, u, {0, 4, 4}, 3),
                                        add_constant(g_, 1, 2),
                                        add_constant(g_, 2, 2)};
  for (NodeId id : distinct) keep(id);
  const std::size_t before = g_.nodes.size();
  share_common_subexpressions(g_);
  drop_dead(g_);
  EXPECT_EQ(g_.nodes.size(), before) << printed();
}

TEST_F(Passes, DrawsAreEqualAtOneSiteOnlyAndCarriesNever) {
  const NodeId u = data();
  for (std::uint32_t site : {1u, 1u, 2u}) keep(draw(u, site));
  for (int i = 0; i < 2; ++i) {
    const NodeId carry = add_carry(g_, "h", RowKind::step(), 2, kNoNode, false);
    g_[carry].inputs[0] = u;
    keep(carry);
  }
  share_common_subexpressions(g_);
  drop_dead(g_);
  EXPECT_EQ(count(Op::gaussian_sample), 2) << printed();
  EXPECT_EQ(count(Op::carry), 2) << printed();
}

TEST_F(Passes, SumsAndActivationsGoIntoTheirProduct) {
  const NodeId u = data(), v = data("v", 3);
  const NodeId sum = add_sum(g_, add_linear(g_, u, weight(0), 3), v);
  keep(add_activation(g_, Activation::relu, sum));
  fuse(g_);
  drop_dead(g_);
  ASSERT_EQ(g_.nodes.size(), 3u) << printed();
  const Node& fused = g_[g_.outputs[0].node];
  EXPECT_EQ(fused.op, Op::linear);
  EXPECT_EQ(fused.activation, Activation::relu);
  EXPECT_EQ(g_[fused.inputs[1]].name, "v");
}

TEST_F(Passes, AnActivationsSlopeGoesIntoTheProductBeforeIt) {
  const NodeId u = data(), y = add_activation(g_, Activation::tanh, data("v", 2));
  const auto back = [&](NodeId grad) {
    Node product;
    product.op = Op::linear_transposed, product.D = 2, product.weight = weight(0);
    product.inputs = {grad, kNoNode};
    return add_rowwise(g_, std::move(product));
  };
  const auto slope = [&](NodeId grad) {
    Node node;
    node.op = Op::activation_backward, node.activation = Activation::tanh, node.D = 2;
    node.inputs = {y, grad};
    return add_rowwise(g_, std::move(node));
  };
  keep(slope(back(u)));
  const NodeId twice = back(add_sum(g_, u, u));
  keep(slope(twice)), keep(twice);
  fuse(g_);
  drop_dead(g_);
  EXPECT_EQ(count(Op::activation_backward), 1) << printed();
  const Node& fused = g_[g_.outputs[0].node];
  ASSERT_EQ(fused.op, Op::linear_transposed);
  EXPECT_EQ(fused.activation, Activation::tanh);
  ASSERT_EQ(fused.inputs.size(), 3u);
  EXPECT_EQ(g_[fused.inputs[0]].name, "u");
  EXPECT_EQ(g_[fused.inputs[2]].op, Op::activation);
}

TEST_F(Passes, AProductThatIsReadTwiceStaysApart) {
  const NodeId u = data(), v = data("v", 3), product = add_linear(g_, u, weight(0), 3);
  keep(add_sum(g_, product, v));
  keep(add_activation(g_, Activation::relu, product));
  fuse(g_);
  drop_dead(g_);
  EXPECT_EQ(count(Op::multiply_add), 1) << printed();
  EXPECT_EQ(count(Op::activation), 1) << printed();
}

TEST_F(Passes, AScaledSumIsNoAddend) {
  const NodeId u = data(), v = data("v", 3);
  keep(add_multiply_add(g_, 1, add_linear(g_, u, weight(0), 3), kNoNode, -1, v));
  fuse(g_);
  drop_dead(g_);
  EXPECT_EQ(count(Op::multiply_add), 1) << printed();
}

// h' = tanh(W0 u + W1 h): the product of u runs before the loop, so it is the addend of the other.
TEST_F(Passes, AHoistedProductDoesNotMoveIntoALoop) {
  const NodeId u = data("u", 2), h = add_carry(g_, "h", RowKind::step(), 3, kNoNode, false);
  const NodeId input = add_linear(g_, u, weight(0), 3), own = add_linear(g_, h, weight(1, 3), 3);
  g_[h].inputs[0] = add_activation(g_, Activation::tanh, add_sum(g_, input, own));
  keep(h);
  fuse(g_);
  drop_dead(g_);
  EXPECT_EQ(count(Op::multiply_add) + count(Op::activation), 0) << printed();
  const Schedule schedule = make_schedule(g_);
  for (const Region& region : schedule.regions) {
    for (NodeId id : region.nodes) {
      if (g_[id].op != Op::linear) continue;
      EXPECT_EQ(region.loop, g_[id].weight.parameter == 1);
    }
  }
}

TEST_F(Passes, WhatNobodyNeedsIsDropped) {
  const NodeId u = data(), product = add_linear(g_, u, weight(0), 3);
  add_activation(g_, Activation::relu, add_linear(g_, data("v"), weight(1), 3));
  keep(product);
  drop_dead(g_);
  EXPECT_EQ(g_.nodes.size(), 2u) << printed();
  EXPECT_EQ(g_.output("out" + std::to_string(product)), 1);
  EXPECT_THAT([&] { g_.output("gone"); },
              testing::ThrowsMessage<InvalidArgument>("graph: no output is called gone"));
}

TEST_F(Passes, ADeadCycleIsDroppedWhole) {
  const NodeId u = data(), h = add_carry(g_, "h", RowKind::step(), 2, kNoNode, false);
  g_[h].inputs[0] = add_sum(g_, h, u);
  keep(add_activation(g_, Activation::relu, u));
  drop_dead(g_);
  EXPECT_EQ(count(Op::carry), 0) << printed();
}

TEST_F(Passes, TheGradientOfAForwardCarryRunsBackwardInTime) {
  const NodeId u = data(), h = add_carry(g_, "h", RowKind::step(), 2, kNoNode, false);
  g_[h].inputs[0] = add_activation(g_, Activation::tanh, add_linear(g_, h, weight(0), 2, {}, u));
  keep(h);
  differentiate(g_, h, add_constant(g_, 1, 2));
  drop_dead(g_);
  const Schedule schedule = make_schedule(g_);
  std::vector<bool> directions;
  for (const Region& region : schedule.regions) {
    if (region.loop) directions.push_back(region.backward_in_time);
  }
  EXPECT_THAT(directions, testing::ElementsAre(false, true)) << printed();
}

}  // namespace
}  // namespace seqvae::test
