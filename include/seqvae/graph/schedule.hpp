/// \file  What runs when: the strongly connected components of a graph are its loops over time.
///
/// A node is in a loop if and only if it lies on a cycle, and each cycle passes through a carry.
/// All else is hoisted: what the loop needs runs before it over all rows at once, what needs the
/// loop runs after it. A carry on no cycle is a shift by one step. Nothing else decides.
#pragma once
#include "seqvae/graph/graph.hpp"

namespace seqvae {

/// Nodes that run together: one after another over all rows, or step by step in a loop over time.
struct Region {
  bool loop = false;
  bool backward_in_time = false;
  bool padded = false;        ///< a loop over padded rows, as a device may want it
  bool at_once = false;       ///< products over all rows that do not wait for each other: one call
  std::vector<NodeId> nodes;  ///< in the order of their execution
};

struct Schedule {
  std::vector<Region> regions;
  std::vector<std::int32_t> region_of;  ///< of each node
};

/// A topological order of one step: inputs first, a carry's `next` not being an input of its step.
std::vector<NodeId> order_of_one_step(const Graph& graph);

/// Index of each node's strongly connected component, in an order in which they can run.
std::vector<std::int32_t> components(const Graph& graph);

/// \throws InvalidArgument naming the carries of a cycle that runs in both directions of time, or
/// that passes through a reduction over time.
/// `hoist` off leaves in a loop all that has a row a step: slow, and equal up to rounding.
Schedule make_schedule(const Graph& graph, bool hoist = true);

/// The graph for a reader: regions, and in each its nodes with shapes and inputs.
std::string describe(const Graph& graph, const Schedule& schedule,
                     const std::vector<std::string>& parameter_names);

}  // namespace seqvae
