// A chain in one kernel for all steps. A cluster of C CTAs takes up to 8 rows through all of them
// and needs no other cluster. Each CTA has the slots of all its rows in shared memory, and runs
// every stage on them by itself: what a stage costs is a few instructions a row and column, less
// than telling others of it. Products alone are shared out, by columns: their weights are what does
// not fit one CTA. A CTA finishes its sums (bias, addend, activation) and sends them to their slots
// in all CTAs by st_async. places.cuh says where matrices stand.
//
//     received    two mbarriers a product, by the parity of the step
//     landing     of products whose results cannot be sent to their slots
//     stores      stages that write outside of the slots: each CTA its share of the quads
//
// Floor: a step's products from shared memory (4 bytes of weights a multiply-add of up to 8 rows,
// 128 bytes a cycle), the latency of an exchange a product (0.37 us in a cluster of 8 on an H200).
// Hazards: a stage whose `waits` is set reads what other threads wrote since all last met, or
// writes what they read: a __syncthreads before it. A product has one of its own, between its
// partial sums and their addition: all have read x by then. Partial sums are written again after
// all of the product before is in from everyone, own threads too. A CTA sends the result of the
// next step once it has all that this step's product wants; others may still read this step's where
// it would go, unless a product has come between, whose sums they send after they met: so the first
// products of a step have two places each (arrange_chain). Nobody ends before all that is sent to
// it is in.
#include <algorithm>

#include "kernels/chain/places.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/runtime.hpp"
#include "kernels/elementwise/quads.cuh"
#include "kernels/gaussian/head.cuh"
#include "kernels/gaussian/sample.cuh"
#include "kernels/recurrence/cells.cuh"

namespace seqvae::cuda {
namespace {

/// One CTA of a chain.
class Worker {
  using Stage = ChainPlaces::Stage;

 public:
  __device__ Worker(const ChainArgs<float>& a, const ChainPlan& plan, unsigned char* shared)
      : a_(a), plan_(plan), at_(a, plan, shared), thread_(static_cast<int>(threadIdx.x)) {}

  __device__ void begin() { at_.begin(); }

  __device__ void run_steps() {
    for (int step = at_.begin_step(); step < at_.end_step(); ++step) {
      if (a_.products == 0) at_.ask_for_inputs(step + 1, at_.next().rows);
      run_stages(step);
      __syncthreads();
      const ChainPlaces::Offsets later = at_.offsets_of(step + 2);  // on its way while others store
      store(step);
      at_.move_on(step, later);
    }
  }

  /// Zeros in packed rows that no sequence has; all blocks share them.
  __device__ void clear_spare() const {
    if (a_.offsets == nullptr) return;
    const std::int64_t used = a_.offsets[a_.T] * a_.K, spare = a_.capacity - used;
    const std::int64_t apart = std::int64_t{gridDim.x} * kChainThreads;
    for (int i = at_.starts() + at_.carries(); i < at_.all(); ++i) {
      const Stage& stage = a_.table[i];
      if (!stage.leaves || stage.op != ChainOp::multiply_add) continue;
      const Rows<float> y = arguments_of<MultiplyAddArgs<float>>(stage).y;
      for (std::int64_t e = std::int64_t{blockIdx.x} * kChainThreads + thread_; e < spare * stage.D;
           e += apart) {
        y[used + e / stage.D][e % stage.D] = 0.0f;
      }
    }
  }

 private:
  /// One place for all stages: the code of a stage is long, and is not to be there twice.
  __device__ void run_stages(int step) const {
    for (int i = step == 0 ? 0 : at_.starts(); i < at_.all() - at_.stores(); ++i) {
      if (at_.is_carry(i) && step == 0) continue;
      const Stage& stage = at_.table()[i];
      if (stage.waits) __syncthreads();
      run(stage, step);
    }
  }

  /// What leaves the slots at the end of a step: a warp of the cluster a row of a matrix, the last
  /// warps first, as the others move addresses on.
  __device__ void store(int step) const {
    const int rows = at_.stores() * at_.now().rows;
    const int warp = (kChainWarps - 1 - thread_ / kWarpSize) * plan_.ctas + at_.rank();
    const int lane = thread_ % kWarpSize;
    for (int i = warp; i < rows; i += kChainWarps * plan_.ctas) {
      const int row = i / at_.stores();
      const Stage& stage = at_.table()[at_.all() - (row + 1) * at_.stores() + i];
      MultiplyAddArgs<float> args = arguments_of<MultiplyAddArgs<float>>(stage);
      const ChainOperand& to = stage.operand[3];
      args.y.data += to.is_packed ? std::int64_t{at_.now().first} * args.y.stride : to.step * step;
      if (at_.parity_of(step) != 0) {
        args.a.data += stage.operand[0].column;
        args.b.data += stage.operand[1].column, args.c.data += stage.operand[2].column;
      }
      const int D = static_cast<int>(stage.D);
      for (int d = 4 * lane; d < D; d += 4 * kWarpSize) do_quad(args, row, d, stage.wide);
    }
  }

  /// f(row, d) for the quads of all rows; of a stage that leaves the slots for this CTA's share.
  template <class F>
  __device__ __forceinline__ void each_quad(const Stage& stage, F f) const {
    const int quads = static_cast<int>((stage.D + 3) / 4), all = at_.now().rows * quads;
    const int first = stage.leaves ? at_.rank() * kChainThreads : 0;
    const int apart = stage.leaves ? plan_.ctas * kChainThreads : kChainThreads;
    for (int i = first + thread_; i < all; i += apart) {
      const int row = Divisor{stage.per_row}.divide(i);
      f(row, 4 * (i - row * quads));
    }
  }

  template <class Args>
  __device__ __forceinline__ void row_wise(const Stage& stage) const {
    const Args& args = arguments_of<Args>(stage);
    each_quad(stage, [&](int row, int d) { do_quad(args, row, d, stage.wide); });
  }

  template <class Args>
  __device__ __forceinline__ void draw(const Stage& stage) const {
    const Args& args = arguments_of<Args>(stage);
    const RowLayout& layout = args.noise.layout;
    each_quad(stage, [&](int row, int d) {
      RowPlace place{};
      const unsigned number = static_cast<unsigned>(at_.first_row()) + row;
      const unsigned K = static_cast<unsigned>(layout.K), b = K == 1 ? number : number / K;
      place.row = row, place.b = b, place.k = number - b * K;
      place.t = layout.t0 + (layout.origins != nullptr ? layout.origins[place.b] : 0);
      place.exists = place.valid = true;
      do_quad(args, place, d, stage.wide);
    });
  }

  __device__ SharedAddress barrier_of(const Stage& stage, int parity) const {
    return at_.received() + 8u * static_cast<unsigned>(2 * stage.number + parity);
  }

  __device__ void multiply(const Stage& stage, int step) const {
    const DenseArgs<float>& args = arguments_of<DenseArgs<float>>(stage);
    const ProductShare& share = at_.products()[stage.number];
    const bool shared = share.shared;
    const int count = share.count, parts = share.parts, parity = at_.parity_of(step);
    const SharedAddress barrier = barrier_of(stage, parity);
    if (shared && thread_ == 0) mbarrier_arm(barrier, 4 * at_.now().rows * padded(stage.D));
    // Each sum is added up, finished and sent by eight lanes: lane j adds every eighth part from j
    // on, and the eight meet by halves. The first addend is on its way during the product.
    const int all = at_.now().rows * count, j = thread_ % 8, mine = thread_ / 8;
    const auto addend_of = [&](int i) {
      const int row = share.by_count.divide(i), q = share.first + i - row * count;
      return load_quad(args.addend[row], 4 * q, stage.D, stage.wide);
    };
    float4 addend = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (args.addend && mine < all) addend = addend_of(mine);
    const ShareRows x{args.x.data, args.x.stride, at_.now().rows,
                      share.quick || (args.x.stride % 4 == 0 && share.W.K % 4 == 0 &&
                                      reinterpret_cast<std::uintptr_t>(args.x.data) % 16 == 0)};
    const int R = multiply_share(share, x, at_.partial());
    __syncthreads();
    float* const to = stage.lands
                          ? at_.landing() + parity * plan_.group * a_.landing + stage.landing
                          : args.y.data;
    const int to_stride = static_cast<int>(stage.lands ? a_.landing : args.y.stride);
    for (int i = mine; i - thread_ % kWarpSize / 8 < all; i += kChainThreads / 8) {
      const int row = share.by_count.divide(i), q = i - row * count;
      float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 4
      for (int part = j; part < (i < all ? parts : 0); part += 8) {
        sum = plus4(sum, *reinterpret_cast<const float4*>(at_.partial() +
                                                          ((part * R + row) * count + q) * 4));
      }
#pragma unroll
      for (int apart = 1; apart < 8; apart *= 2) {
        sum = map4([&](float v) { return v + __shfl_xor_sync(kFullMask, v, apart); }, sum);
      }
      __syncwarp();  // lanes that send nothing have read too
      if (i >= all) continue;
      const int d = 4 * (share.first + q);
      if (args.bias != nullptr) sum = plus4(sum, load_quad(args.bias, d, stage.D, true));
      if (args.addend) sum = plus4(sum, i == mine ? addend : addend_of(i));
      const Activation kind = args.activation;
      if (kind != Activation::identity) sum = map4([&](float v) { return activate(kind, v); }, sum);
      float* const at = to + row * to_stride + d;
      if (!shared) {
        if (j == 0) *reinterpret_cast<float4*>(at) = sum;
        continue;
      }
      const SharedAddress own = shared_address(at);
      const uint4 words = make_uint4(__float_as_uint(sum.x), __float_as_uint(sum.y),
                                     __float_as_uint(sum.z), __float_as_uint(sum.w));
      for (int c = j; c < plan_.ctas; c += 8) {
        const unsigned cta = static_cast<unsigned>((at_.rank() + c) & (plan_.ctas - 1));
        st_async(map_shared(own, cta), words, map_shared(barrier, cta));
      }
    }
    if (stage.number == 0) {  // while the sums are on their way
      at_.ask_for_inputs(step + 1, at_.next().rows);
    }
    if (!shared) {
      __syncthreads();
    } else {
      mbarrier_wait(barrier, static_cast<unsigned>((step - at_.begin_step()) >> 1) & 1);
      __syncwarp();  // lanes may have polled a different number of times
    }
    if (!stage.lands) return;
    each_quad(stage, [&](int row, int d) {
      store_quad(args.y[row], d, stage.D, stage.wide,
                 *reinterpret_cast<const float4*>(to + row * to_stride + d));
    });
    __syncthreads();
  }

  __device__ __forceinline__ void run(const Stage& stage, int step) const {
    switch (stage.op) {
      case ChainOp::dense:
        return multiply(stage, step);
      case ChainOp::activation:
        return row_wise<ActivationArgs<float>>(stage);
      case ChainOp::activation_backward:
        return row_wise<ActivationBackwardArgs<float>>(stage);
      case ChainOp::multiply_add:
        return row_wise<MultiplyAddArgs<float>>(stage);
      case ChainOp::gated_mix:
        return row_wise<GatedMixArgs<float>>(stage);
      case ChainOp::gated_mix_backward:
        return row_wise<GatedMixBackwardArgs<float>>(stage);
      case ChainOp::select:
        return row_wise<SelectArgs<float>>(stage);
      case ChainOp::gru_cell:
        return row_wise<GruCellArgs<float>>(stage);
      case ChainOp::gru_cell_backward:
        return row_wise<GruCellBackwardArgs<float>>(stage);
      case ChainOp::lstm_cell:
        return row_wise<LstmCellArgs<float>>(stage);
      case ChainOp::lstm_cell_backward:
        return row_wise<LstmCellBackwardArgs<float>>(stage);
      case ChainOp::gaussian_head:
        return row_wise<GaussianHeadArgs<float>>(stage);
      case ChainOp::gaussian_head_backward:
        return row_wise<GaussianHeadBackwardArgs<float>>(stage);
      case ChainOp::gaussian_sample:
        return draw<GaussianSampleArgs<float>>(stage);
      case ChainOp::gaussian_sample_backward:
        return draw<GaussianSampleBackwardArgs<float>>(stage);
    }
  }

  const ChainArgs<float>& a_;
  const ChainPlan& plan_;
  ChainPlaces at_;
  int thread_;
};

__global__ void __launch_bounds__(kChainThreads, 1)
    run_chain(const __grid_constant__ ChainArgs<float> a, const __grid_constant__ ChainPlan plan) {
  Worker worker(a, plan, &shared_storage<unsigned char>());
  worker.begin();
  worker.run_steps();
  worker.clear_spare();
}

LaunchShape shape_of(const ChainArgs<float>& a, const ChainPlan& plan) {
  LaunchShape shape{
      blocks_for(a.rows > 0 ? a.rows : 1, plan.group) * static_cast<unsigned>(plan.ctas),
      kChainThreads, plan.at.bytes};
  shape.cluster = static_cast<unsigned>(plan.ctas);
  return shape;
}

/// Cycles of a step, about: what one CTA reads and multiplies for the products, exchanges, and a
/// pass of the threads over the rows of every stage.
double cycles_of(const ChainArgs<float>& a, const ChainPlan& plan) {
  constexpr double kSharedBytes = 128, kStreamedBytes = 32, kMultiplyAdds = 128;  // a cycle
  constexpr double kOfAProduct = 400, kOfAnExchange = 550, kOfAnotherCta = 20, kOfAPass = 200;
  const double rows = plan.group, stages = static_cast<double>(a.carries + a.stages - a.stores);
  const double passes = rows * static_cast<double>(a.columns) / (4 * kChainThreads);
  double cycles = kOfAPass * std::max(stages, passes);
  for (std::int64_t i = 0; i < a.products; ++i) {
    const auto [N, K] = a.product[i];
    const double bytes = weight_bytes(N, K, plan.ctas);
    const double read = (plan.staying >> i & 1) != 0 ? bytes * (1 + rows / 4) / kSharedBytes
                                                     : bytes / kStreamedBytes;
    cycles += kOfAProduct + std::max(read, bytes / 4 * rows / kMultiplyAdds);
    if (is_shared(N, plan.ctas)) cycles += kOfAnExchange + kOfAnotherCta * plan.ctas;
  }
  return cycles;
}

/// The quickest of all that fit, by that model.
bool plan_chain(const ChainArgs<float>& a, ChainPlan& best) {
  const auto most = static_cast<unsigned>(device_limit(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  const bool has_clusters = device_limit(cudaDevAttrComputeCapabilityMajor) >= 9;
  bool found = false;
  double least = 0;
  for (int ctas = 1; ctas <= (has_clusters ? 16 : 1); ctas *= 2) {
    if (a.cluster > 0 && a.cluster != static_cast<unsigned>(ctas) && has_clusters) continue;
    for (int group = 1; group <= kChainRows; ++group) {
      ChainPlan plan{group, ctas, 0, layout_of(a, group)};
      if (plan.at.bytes > most) break;
      for (std::int64_t i = 0; i < a.products; ++i) {
        const unsigned bytes = weight_bytes(a.product[i].N, a.product[i].K, ctas);
        if (plan.at.bytes + bytes > most) continue;
        plan.at.bytes += bytes, plan.staying |= 1u << i;
      }
      const std::int64_t clusters = (a.rows + group - 1) / group;
      const int side_by_side = ctas == 1 ? device_limit(cudaDevAttrMultiProcessorCount)
                                         : max_active_clusters(run_chain, shape_of(a, plan));
      if (side_by_side == 0) break;
      const auto waves = static_cast<double>((clusters + side_by_side - 1) / side_by_side);
      const double cycles = std::max(waves, 1.0) * cycles_of(a, plan);
      if (!found || cycles < least) best = plan, least = cycles, found = true;
      if (waves <= 1) break;
    }
  }
  return found;
}

}  // namespace

bool chain_fits(const ChainArgs<float>& a) {
  ChainPlan plan{};
  return plan_chain(a, plan);
}

void chain(const ChainArgs<float>& a, Stream stream) {
  check(a);
  if ((a.rows == 0 || a.T == 0) && a.capacity == 0) return;
  ChainPlan plan{};
  if (!plan_chain(a, plan)) throw_no_room("chain");
  launch(run_chain, shape_of(a, plan), stream, a, plan);
}

}  // namespace seqvae::cuda
