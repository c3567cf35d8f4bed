#include "host/graph/regions.hpp"

#include <algorithm>
#include <iterator>

#include "host/graph/lowering.hpp"
#include "seqvae/core/index.hpp"

namespace seqvae {

void number_regions(Schedule& schedule) {
  for (std::size_t r = 0; r < schedule.regions.size(); ++r) {
    for (NodeId id : schedule.regions[r].nodes) {
      schedule.region_of[index(id)] = static_cast<std::int32_t>(r);
    }
  }
}

void put_carries_first(Scan& scan) {
  for (Region& region : scan.schedule.regions) {
    if (!region.loop) continue;
    std::stable_partition(region.nodes.begin(), region.nodes.end(),
                          [&](NodeId id) { return scan.graph[id].op == Op::carry; });
  }
}

bool put_gradients_last(Scan& scan) {
  Schedule& schedule = scan.schedule;
  Region last;
  for (Region& region : schedule.regions) {
    std::erase_if(region.nodes, [&](NodeId id) {
      const bool moves = std::ranges::count(scan.graph.sinks, id) > 0;
      if (moves) last.nodes.push_back(id);
      return moves;
    });
  }
  const bool any = !last.nodes.empty();
  if (any) schedule.regions.push_back(std::move(last));
  number_regions(schedule);
  return any;
}

void group_products(Scan& scan) {
  std::vector<Region> regions;
  std::vector<bool> waits(scan.graph.nodes.size(), false);
  for (Region& region : scan.schedule.regions) {
    if (region.loop) {
      regions.push_back(std::move(region));
      continue;
    }
    for (NodeId id : region.nodes) waits[index(id)] = true;
    const auto ready = [&](NodeId id) {
      return std::ranges::none_of(scan.graph[id].inputs, [&](NodeId input) {
        return input != kNoNode && waits[index(input)];
      });
    };
    while (!region.nodes.empty()) {
      Region others, products;
      products.at_once = true;
      std::erase_if(region.nodes, [&](NodeId id) {
        const bool runs = !is_product(scan.graph[id].op) && ready(id);
        if (runs) others.nodes.push_back(id), waits[index(id)] = false;
        return runs;
      });
      std::ranges::copy_if(region.nodes, std::back_inserter(products.nodes),
                           [&](NodeId id) { return is_product(scan.graph[id].op) && ready(id); });
      for (NodeId id : products.nodes) waits[index(id)] = false, std::erase(region.nodes, id);
      for (Region* next : {&others, &products}) {
        if (!next->nodes.empty()) regions.push_back(std::move(*next));
      }
    }
  }
  scan.schedule.regions = std::move(regions);
  number_regions(scan.schedule);
}

}  // namespace seqvae
