// AdamW on CUDA against its CPU twins, and what a captured graph of it does as its words change.
#include "seqvae/kernels/optimizer.hpp"
#include "tests/kernels/cuda_parity.hpp"

namespace seqvae::test {
namespace {

/// Parameters, gradient, moments and decay mask of `count` elements on the device.
struct Update {
  explicit Update(const std::vector<std::vector<float>>& start)
      : p(start[0]),
        g(start[1]),
        m(start[2]),
        v(start[3]),
        mask(start[4]),
        step(1),
        norm(1),
        workspace(cuda::adamw_workspace_bytes() / sizeof(double)) {
    args.count = static_cast<std::int64_t>(start[0].size());
    args.parameters = p.data(), args.gradients = g.data(), args.m = m.data(), args.v = v.data();
    args.decay_mask = mask.data(), args.step = step.data(), args.norm = norm.data();
    args.workspace = workspace.data(), args.workspace_bytes = cuda::adamw_workspace_bytes();
  }
  DeviceArray<float> p, g, m, v, mask;
  DeviceArray<AdamWStep> step;
  DeviceArray<double> norm, workspace;
  AdamWArgs<float> args;
};

std::vector<std::vector<float>> start(std::size_t count) {
  std::vector<std::vector<float>> all;
  for (unsigned row = 0; row < 5; ++row) {
    Matrix<float> values(1, static_cast<std::int64_t>(count));
    values.fill_normal(row + 1);
    std::vector<float> flat(count);
    for (std::size_t i = 0; i < count; ++i) {
      const float x = values(0, static_cast<std::int64_t>(i));
      flat[i] = row == 3 ? x * x : row == 4 ? static_cast<float>(i % 3 != 0) : x;
    }
    all.push_back(std::move(flat));
  }
  return all;
}

template <class Real>
std::vector<std::vector<Real>> on_cpu(const std::vector<std::vector<float>>& from,
                                      AdamWArgs<float> options, const AdamWStep& step,
                                      double& norm) {
  std::vector<std::vector<Real>> all;
  for (const auto& row : from) all.emplace_back(row.begin(), row.end());
  AdamWArgs<Real> args;
  args.count = options.count, args.beta1 = options.beta1, args.beta2 = options.beta2;
  args.weight_decay = options.weight_decay, args.l2 = options.l2;
  args.clip_norm = options.clip_norm, args.clip_value = options.clip_value;
  args.parameters = all[0].data(), args.gradients = all[1].data();
  args.m = all[2].data(), args.v = all[3].data(), args.decay_mask = all[4].data();
  args.step = &step, args.norm = &norm;
  cpu::adamw(args);
  return all;
}

struct Options {
  double weight_decay, l2, clip_norm, clip_value;
};

TEST(CudaAdamW, HasItsParity) {
  for (const std::size_t count : {1u, 4u, 37u, 1024u, 5003u}) {
    for (const Options& o : {Options{0, 0, 0, 0}, {0.1, 0, 1, 0}, {0.1, 0.02, 0.5, 0.75}}) {
      const auto from = start(count);
      const AdamWStep at{3, 0.01};
      Update update(from);
      update.args.weight_decay = o.weight_decay, update.args.l2 = o.l2;
      update.args.clip_norm = o.clip_norm, update.args.clip_value = o.clip_value;
      double norm = 0, float_norm = 0;
      const auto oracle = on_cpu<double>(from, update.args, at, norm);
      const auto plain = on_cpu<float>(from, update.args, at, float_norm);
      std::vector<std::vector<float>> first;
      for_each_schedule([&] {
        Update again(from);
        const DeviceArray<AdamWStep> step(std::vector<AdamWStep>{at});
        AdamWArgs<float> args = update.args;
        args.parameters = again.p.data(), args.gradients = again.g.data();
        args.m = again.m.data(), args.v = again.v.data(), args.decay_mask = again.mask.data();
        args.norm = again.norm.data(), args.step = step.data();
        args.workspace = again.workspace.data();
        cuda::adamw(args, Stream());
        EXPECT_NEAR(again.norm.read()[0], norm, 1e-14 * norm);
        const std::vector<std::vector<float>> result{again.p.read(), again.m.read(),
                                                     again.v.read()};
        if (first.empty()) first = result;
        EXPECT_EQ(result, first) << "another schedule";
      });
      for (const std::size_t row : {0, 1, 2}) {
        const std::size_t of = row == 0 ? 0 : row + 1;  // p, m, v
        Errors errors;
        for (std::size_t i = 0; i < count; ++i) {
          errors.add(first[row][i], plain[of][i], oracle[of][i]);
        }
        EXPECT_LE(errors.actual,
                  2 * errors.plain + errors.largest * std::numeric_limits<float>::epsilon());
      }
    }
  }
}

TEST(CudaAdamW, LeavesAllAsItIsWhereTheNormIsNotFinite) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    auto from = start(131);
    from[1][77] = bad;
    Update update(from);
    const DeviceArray<AdamWStep> step(std::vector<AdamWStep>{{}});
    update.args.step = step.data();
    update.args.clip_norm = 1, update.args.clip_value = 0.5, update.args.weight_decay = 0.1;
    cuda::adamw(update.args, Stream());
    EXPECT_FALSE(std::isfinite(update.norm.read()[0]));
    EXPECT_EQ(update.p.read(), from[0]);
    EXPECT_EQ(update.m.read(), from[2]);
    EXPECT_EQ(update.v.read(), from[3]);
  }
}

TEST(CudaAdamW, AReplayedGraphGoesOnAsTheStepInMemoryChanges) {
  const auto from = start(50);
  Update update(from), alone(from);
  const Stream stream = cuda::create_stream();
  {
    cuda::Graph graph(stream, [&](Stream s) { cuda::adamw(update.args, s); });
    for (std::int64_t n = 1; n <= 3; ++n) {
      const AdamWStep at{n, 0.1 / static_cast<double>(n)};
      cuda::copy(update.step.data(), &at, sizeof(at), stream);
      graph.replay();
      cuda::synchronize(stream);
      cuda::copy(alone.step.data(), &at, sizeof(at), Stream());
      cuda::adamw(alone.args, Stream());
    }
  }
  cuda::synchronize(Stream());
  EXPECT_EQ(update.p.read(), alone.p.read());
  EXPECT_EQ(update.v.read(), alone.v.read());
  cuda::destroy_stream(stream);
}

}  // namespace
}  // namespace seqvae::test
