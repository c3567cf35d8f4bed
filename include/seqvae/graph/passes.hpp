/// \file  Passes over a graph: differentiate, share common subexpressions, fuse, drop what is dead.
#pragma once
#include "seqvae/graph/graph.hpp"

namespace seqvae {

/// Reverse mode, source to source: adds to the graph the gradient of sum(output * seed) with
/// respect to every parameter, as sinks, and to each node of `wanted`, as an output named
/// "grad:" + its name. The adjoint of a carry is a carry in the other direction of time, so a
/// recurrence's gradient is a recurrence, and weight gradients hang on no recurrence at all.
/// `seed` must have the output's kind and width, or be shared.
void differentiate(Graph& graph, NodeId output, NodeId seed,
                   const std::vector<NodeId>& wanted = {});

/// Equal nodes become one. Draws are equal only at one site, carries never.
void share_common_subexpressions(Graph& graph);

/// Sums go into the products that they follow (addend), activations behind them, and an
/// activation's slope into the input gradient that it scales, where nothing else reads the value in
/// between and no product would move into a loop.
void fuse(Graph& graph);

/// Drops nodes that no output and no sink needs, and renumbers the rest in the order of their
/// making. \throws InvalidArgument where an `absent` node is needed.
void drop_dead(Graph& graph);

}  // namespace seqvae
