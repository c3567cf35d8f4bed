// How work on a GPU is timed: as replays of a captured graph of many calls, so that neither the
// host nor the gaps between single launches count.
#pragma once
#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "kernels/common/runtime.hpp"

namespace seqvae::bench {

inline double seconds_of(cuda::Graph& graph, Stream stream, int replays) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < replays; ++i) graph.replay();
  cuda::synchronize(stream);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Seconds a call of enqueue(stream): the median of seven turns of at least `turn` seconds each.
template <class Enqueue>
double seconds_a_call(double turn, Enqueue enqueue) {
  const Stream stream = cuda::create_stream();
  enqueue(stream);  // what is asked for once is asked before a stream is captured
  cuda::synchronize(stream);
  double seconds = 0;
  for (int calls = 1;;) {
    cuda::Graph graph(stream, [&](Stream s) {
      for (int i = 0; i < calls; ++i) enqueue(s);
    });
    seconds_of(graph, stream, 1);  // the first carries the graph to the device
    const double once = seconds_of(graph, stream, 1);
    if (once < turn / 4 && calls < 256) {
      calls = std::min(256, 4 * calls);
      continue;
    }
    const int replays = std::max(1, static_cast<int>(std::ceil(turn / once)));
    std::vector<double> turns;
    for (int i = 0; i < 7; ++i) turns.push_back(seconds_of(graph, stream, replays));
    std::nth_element(turns.begin(), turns.begin() + 3, turns.end());
    seconds = turns[3] / replays / calls;
    break;
  }
  cuda::destroy_stream(stream);
  return seconds;
}

}  // namespace seqvae::bench
