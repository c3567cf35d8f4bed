// What a launch costs: back to back in a stream, as a node of a graph, with programmatic edges, and
// on the host.
#include <stdexcept>

#include "constants.hpp"

namespace seqvae::bench::gpu {
namespace {

struct Large {
  float* p[5];
};

__global__ void nothing() {}

/// 200 bytes of parameters; reads one of each so that none is dead.
__global__ void nothing_large(Large a, Large b, Large c, Large d, Large e) {
  if (a.p[0] != nullptr) *a.p[0] = *b.p[1] + *c.p[2] + *d.p[3] + *e.p[4];
}

/// Its successor may be launched at once, and waits here for this one's end.
__global__ void nothing_programmatic() {
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
}

enum class Kind { plain, large, programmatic };

void launch_nothing(Kind kind, int blocks, cudaStream_t stream) {
  Shape shape{blocks};
  switch (kind) {
    case Kind::plain:
      return launch(nothing, shape, stream);
    case Kind::large:
      return launch(nothing_large, shape, stream, Large{}, Large{}, Large{}, Large{}, Large{});
    case Kind::programmatic:
      shape.programmatic = true;
      return launch(nothing_programmatic, shape, stream);
  }
}

/// A chain of kernels that do nothing, captured from a stream.
class Chain {
 public:
  Chain(Kind kind, int blocks, int nodes, cudaStream_t stream) {
    launch_nothing(kind, blocks, stream);  // loads the kernel, which capture may not
    check(cudaStreamSynchronize(stream));
    cudaStream_t capture = nullptr;  // its own, so that a failure spoils no other measurement
    check(cudaStreamCreate(&capture));
    check(cudaStreamBeginCapture(capture, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < nodes; ++i) launch_nothing(kind, blocks, capture);
    check(cudaStreamEndCapture(capture, &graph_));
    check(cudaStreamDestroy(capture));
    if (kind == Kind::programmatic) require_programmatic_edges(nodes);
    check(cudaGraphInstantiate(&exec_, graph_, 0));
    check(cudaGraphUpload(exec_, stream));
  }
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;
  ~Chain() {
    if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
  }
  void run(cudaStream_t stream) const { check(cudaGraphLaunch(exec_, stream)); }

 private:
  void require_programmatic_edges(int nodes) const {
    std::size_t count = 0;
    check(cudaGraphGetEdges(graph_, nullptr, nullptr, nullptr, &count));
    std::vector<cudaGraphNode_t> from(count), to(count);
    std::vector<cudaGraphEdgeData> data(count);
    check(cudaGraphGetEdges(graph_, from.data(), to.data(), data.data(), &count));
    int programmatic = 0;
    for (const auto& edge : data) programmatic += edge.type == cudaGraphDependencyTypeProgrammatic;
    if (programmatic != nodes - 1) {
      throw std::runtime_error(std::to_string(programmatic) + " programmatic edges");
    }
  }
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t exec_ = nullptr;
};

double node_us(Bench& bench, Kind kind, int blocks) {
  constexpr int nodes = 1000;
  const Chain half(kind, blocks, nodes / 2, bench.stream), whole(kind, blocks, nodes, bench.stream);
  return bench.slope_us(nodes, [&](int n) { (n == nodes ? whole : half).run(bench.stream); });
}

/// Wall clock of call, which begins with an idle stream; with_end: until the stream is idle again.
double host_us(Bench& bench, bool with_end, const std::function<void()>& call) {
  std::vector<double> us(51);
  for (int i = -1; i < static_cast<int>(us.size()); ++i) {
    bench.wait();
    const double begin = bench.seconds();
    call();
    if (with_end) bench.wait();
    if (i >= 0) us[static_cast<std::size_t>(i)] = 1e6 * (bench.seconds() - begin);
  }
  bench.wait();
  return median(us);
}

}  // namespace

void measure_launches(Bench& bench) {
  const auto stream_us = [&](Kind kind) {
    return bench.slope_us(2000, [&](int n) {
      for (int i = 0; i < n; ++i) launch_nothing(kind, 1, bench.stream);
    });
  };
  bench.measure("launch_interval", "us", "empty kernels back to back in a stream",
                [&] { return stream_us(Kind::plain); });
  bench.measure("launch_interval_200b", "us", "the same with 5 parameters of 40 bytes",
                [&] { return stream_us(Kind::large); });
  bench.measure("launch_host", "us", "host time of one launch into a stream, of 256 in a row", [&] {
    return host_us(bench, false,
                   [&] {
                     for (int i = 0; i < 256; ++i) launch_nothing(Kind::plain, 1, bench.stream);
                   }) /
           256;
  });
  bench.measure(
      "launch_to_idle", "us", "one empty kernel: from the call until the host sees it end",
      [&] { return host_us(bench, true, [&] { launch_nothing(Kind::plain, 1, bench.stream); }); });
  struct Node {
    const char *name, *what;
    Kind kind;
    int blocks;
  };
  const Node nodes[] = {
      {"graph_node", "a node of a graph of 1000 empty kernels in a chain, 1 block", Kind::plain, 1},
      {"graph_node_all_sms", "the same with a block of 256 threads an SM", Kind::plain, bench.sms},
      {"graph_node_200b", "1 block, 5 parameters of 40 bytes", Kind::large, 1},
      {"graph_node_programmatic", "1 block, the edges are programmatic dependent launches",
       Kind::programmatic, 1},
      {"graph_node_programmatic_all_sms", "the same with a block of 256 threads an SM",
       Kind::programmatic, bench.sms},
  };
  for (const Node& node : nodes) {
    bench.measure(node.name, "us", node.what,
                  [&] { return node_us(bench, node.kind, node.blocks); });
  }
  for (const int count : {1, 1000}) {
    const std::string name = "graph_of_" + std::to_string(count);
    bench.measure(name + "_host", "us", "host time of cudaGraphLaunch", [&] {
      const Chain chain(Kind::plain, 1, count, bench.stream);
      return host_us(bench, false, [&] { chain.run(bench.stream); });
    });
    bench.measure(name + "_to_idle", "us", "from cudaGraphLaunch until the host sees it end", [&] {
      const Chain chain(Kind::plain, 1, count, bench.stream);
      return host_us(bench, true, [&] { chain.run(bench.stream); });
    });
  }
}

}  // namespace seqvae::bench::gpu
