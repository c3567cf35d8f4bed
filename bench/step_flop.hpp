// What a training step costs at least: its products' arithmetic.
#pragma once
#include <cstdint>

#include "seqvae/graph/scan.hpp"

namespace seqvae::bench {

/// 2 x rows x columns x inner over all products that are scheduled, a shared row counted once.
inline std::int64_t products_flop(const Scan& scan, std::int64_t rows, std::int64_t sequences) {
  const auto rows_of = [&](RowKind kind) {
    if (kind.base == RowKind::Base::shared) return std::int64_t{1};
    return kind.base == RowKind::Base::step ? rows : sequences;
  };
  std::int64_t sum = 0;
  for (const Region& region : scan.schedule.regions) {
    for (const NodeId id : region.nodes) {
      const Node& node = scan.graph[id];
      const bool sink = node.op == Op::weight_gradient;
      if (!sink && node.op != Op::linear && node.op != Op::linear_transposed) continue;
      const std::int64_t inner = scan.graph[node.inputs[sink ? 1 : 0]].D;
      sum += 2 * rows_of(node.kind) * node.D * inner;
    }
  }
  return sum;
}

}  // namespace seqvae::bench
