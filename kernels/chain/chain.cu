// A chain in one kernel for all steps. A cluster of C CTAs takes up to 8 rows through all of them
// and needs no other cluster. Each CTA has the slots of all its rows in shared memory, and runs
// every stage on them by itself: what a stage costs is a few instructions a row and column, less
// than telling others of it. Products alone are shared out, by columns: their weights are what does
// not fit one CTA's caches. A CTA's sums go to all CTAs by st_async, and each finishes (bias,
// addend, activation) for itself.
//
//     table       the stages' arguments in shared memory, where threads read them; after each use
//                 the addresses of matrices outside of the slots move on by a step
//     landing     sums of every product, two buffers by the parity of the step, an mbarrier each
//     stores      stages that write outside of the slots: each CTA its share of the quads
//
// Floor: a step's products from L1 (4 bytes of weights a multiply-add of up to 8 rows), the latency
// of a __syncthreads a stage, of an exchange a product (0.37 us in a cluster of 8 on an H200).
// Hazards: a stage reads what the one before wrote: a __syncthreads between. A stage's arguments
// move on only after it, and one more at a step's end stands before the next step's first stage. A
// buffer of `landing` is sent to again two steps on, after all of the step between is in from
// everyone, which they sent after they had read it. Nobody ends before all that is sent to it is
// in.
#include "kernels/chain/product.cuh"
#include "kernels/common/cluster.cuh"
#include "kernels/common/launch.cuh"
#include "kernels/common/runtime.hpp"
#include "kernels/elementwise/quads.cuh"
#include "kernels/gaussian/head.cuh"
#include "kernels/gaussian/sample.cuh"
#include "kernels/recurrence/cells.cuh"
#include "seqvae/kernels/chain.hpp"

namespace seqvae::cuda {
namespace {

using Stage = ChainStage<float>;
static_assert(sizeof(Stage) % sizeof(uint4) == 0);

/// Where things stand in a CTA's shared memory, in bytes.
struct ChainLayout {
  unsigned table, slots, landing, partial, received, bytes;
};

/// What a launch is: rows of a cluster, CTAs of it, and the rest.
struct ChainPlan {
  int group, ctas;
  ChainLayout at;
};

ChainLayout layout_of(const ChainArgs<float>& a, int group, int ctas) {
  ChainLayout at{};
  const auto take = [&](std::int64_t bytes) {
    const unsigned begin = at.bytes;
    at.bytes += static_cast<unsigned>((bytes + 15) / 16 * 16);
    return begin;
  };
  at.table = take((a.starts + a.carries + a.stages) * static_cast<std::int64_t>(sizeof(Stage)));
  at.slots = take(4 * group * a.columns);
  at.landing = take(2 * 4 * group * a.landing);
  at.partial = take(4 * partial_sums_of(a.widest, ctas));
  at.received = take(16 * a.products);
  return at;
}

template <class Args>
__device__ __forceinline__ const Args& arguments_of(const Stage& stage) {
  return *reinterpret_cast<const Args*>(stage.arguments);
}

/// One CTA's view of the chain.
class Worker {
 public:
  __device__ Worker(const ChainArgs<float>& a, const ChainPlan& plan, unsigned char* shared)
      : a_(a),
        plan_(plan),
        table_(reinterpret_cast<Stage*>(shared + plan.at.table)),
        slots_(reinterpret_cast<float*>(shared + plan.at.slots)),
        landing_(reinterpret_cast<float*>(shared + plan.at.landing)),
        partial_(reinterpret_cast<float*>(shared + plan.at.partial)),
        received_(shared_address(shared + plan.at.received)),
        thread_(static_cast<int>(threadIdx.x)),
        rank_(plan.ctas > 1 ? static_cast<int>(cluster_rank()) : 0) {
    first_row_ = std::int64_t{blockIdx.x} / plan.ctas * plan.group;
    begin_ = 0, end_ = a.rows > 0 ? a.T : 0;
    if (a.offsets == nullptr) return;
    std::int64_t steps = 0, beyond = end_;  // that the first of these rows has: rows only end
    while (steps < beyond) {
      const std::int64_t middle = (steps + beyond) / 2;
      if (rows_of_step(middle) > first_row_) {
        steps = middle + 1;
      } else {
        beyond = middle;
      }
    }
    begin_ = a.time > 0 ? 0 : end_ - steps;
    end_ = begin_ + steps;
  }

  __device__ void begin() {
    const int stages = static_cast<int>(a_.starts + a_.carries + a_.stages);
    const int words = stages * static_cast<int>(sizeof(Stage) / sizeof(uint4));
    for (int i = thread_; i < words; i += kChainThreads) {
      reinterpret_cast<uint4*>(table_)[i] = reinterpret_cast<const uint4*>(a_.table)[i];
    }
    __syncthreads();
    for (int i = thread_; i < stages * static_cast<int>(Stage::kOperands); i += kChainThreads) {
      Stage& stage = table_[i / static_cast<int>(Stage::kOperands)];
      const int o = i % static_cast<int>(Stage::kOperands);
      if (o >= stage.operands) continue;
      // The step taken that is the first to run this stage here, and the first that ever is.
      const int list = i / static_cast<int>(Stage::kOperands);
      const bool carries = list >= a_.starts && list < a_.starts + a_.carries;
      const std::int64_t ever = carries ? 1 : 0;
      const std::int64_t now = list < a_.starts ? 0 : begin_ > ever ? begin_ : ever;
      Rows<float>& rows = rows_of(stage, o);
      const ChainOperand& operand = stage.operand[o];
      if (operand.is_slot) {
        rows.data = slots_ + reinterpret_cast<std::uintptr_t>(rows.data) / sizeof(float);
      } else if (operand.is_packed) {
        rows.data += (first_packed_row(now) + first_row_) * rows.stride;
      } else if (rows.data != nullptr) {
        rows.data += first_row_ * rows.stride + operand.step * (now - ever);
      }
      if (o == 0) move_time(stage, a_.time * (now - ever));
    }
    if (plan_.ctas > 1) {
      if (thread_ == 0) {
        for (unsigned i = 0; i < 2 * a_.products; ++i) mbarrier_init(received_ + 8 * i, 1);
        mbarrier_init_fence();
        for (unsigned i = 0; i < a_.starts + a_.carries + a_.stages; ++i) {
          if (table_[i].op != ChainOp::dense || !is_shared(table_[i])) continue;
          arm(table_[i], begin_), arm(table_[i], begin_ + 1);
        }
      }
      cluster_barrier();
    } else {
      __syncthreads();
    }
  }

  __device__ void run_steps() {
    for (std::int64_t step = begin_; step < end_; ++step) {
      rows_ = rows_at(step);
      run_step(step);
    }
  }

  /// Zeros in packed rows that no sequence has; all blocks share them.
  __device__ void clear_spare() const {
    if (a_.offsets == nullptr) return;
    const std::int64_t used = a_.offsets[a_.T] * a_.K, spare = a_.capacity - used;
    const std::int64_t apart = std::int64_t{gridDim.x} * kChainThreads;
    for (std::int64_t i = a_.starts + a_.carries; i < a_.starts + a_.carries + a_.stages; ++i) {
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
  /// Rows of all clusters at step t, of the steps in the order of time.
  __device__ std::int64_t rows_of_step(std::int64_t t) const {
    return (a_.offsets[t + 1] - a_.offsets[t]) * a_.K;
  }
  __device__ std::int64_t time_of(std::int64_t step) const {
    return a_.time > 0 ? step : a_.T - 1 - step;
  }
  /// Where the rows of a step taken begin among the packed ones; of one past the last, anywhere.
  __device__ std::int64_t first_packed_row(std::int64_t step) const {
    return step < a_.T ? a_.offsets[time_of(step)] * a_.K : 0;
  }
  /// This cluster's rows at a step taken.
  __device__ int rows_at(std::int64_t step) const {
    if (step >= end_) return 0;
    const std::int64_t all = a_.offsets == nullptr ? a_.rows : rows_of_step(time_of(step));
    const std::int64_t left = all - first_row_;
    return static_cast<int>(left < plan_.group ? left : plan_.group);
  }

  /// One place for all stages: the code of a stage is long, and is not to be there twice.
  __device__ void run_step(std::int64_t step) {
    const int starts = static_cast<int>(a_.starts), carries = static_cast<int>(a_.carries);
    const int before = step == 0 ? starts : carries, all = before + static_cast<int>(a_.stages);
    for (int i = 0; i < all; ++i) {
      Stage& stage = table_[i >= before ? starts + carries + i - before
                            : step == 0 ? i
                                        : starts + i];
      run(stage, step);
      __syncthreads();
      move_on(stage, step);
    }
    __syncthreads();
  }

  __device__ static Rows<float>& rows_of(Stage& stage, int operand) {
    return *reinterpret_cast<Rows<float>*>(stage.arguments + stage.operand[operand].at);
  }

  __device__ static void move_time(Stage& stage, std::int64_t by) {
    if (stage.op == ChainOp::gaussian_sample) {
      reinterpret_cast<GaussianSampleArgs<float>*>(stage.arguments)->noise.layout.t0 += by;
    } else if (stage.op == ChainOp::gaussian_sample_backward) {
      reinterpret_cast<GaussianSampleBackwardArgs<float>*>(stage.arguments)->noise.layout.t0 += by;
    }
  }

  /// To the next step taken.
  __device__ void move_on(Stage& stage, std::int64_t step) const {
    if (thread_ < stage.operands) {
      const ChainOperand& operand = stage.operand[thread_];
      Rows<float>& rows = rows_of(stage, thread_);
      if (operand.is_packed) {
        rows.data += (first_packed_row(step + 1) - first_packed_row(step)) * rows.stride;
      } else if (!operand.is_slot && operand.step != 0) {
        rows.data += operand.step;
      }
    }
    if (thread_ == kWarpSize) move_time(stage, a_.time);
  }

  /// f(row, d) for the quads of all rows; of a stage that leaves the slots for this CTA's share.
  template <class F>
  __device__ __forceinline__ void each_quad(const Stage& stage, F f) const {
    const int quads = static_cast<int>((stage.D + 3) / 4), all = rows_ * quads;
    const int first = stage.leaves ? rank_ * kChainThreads : 0;
    const int apart = stage.leaves ? plan_.ctas * kChainThreads : kChainThreads;
    for (int i = first + thread_; i < all; i += apart) f(i / quads, 4 * (i % quads));
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
      const std::int64_t number = first_row_ + row;
      place.row = row, place.b = number / layout.K, place.k = number - place.b * layout.K;
      place.t = layout.t0 + (layout.origins != nullptr ? layout.origins[place.b] : 0);
      place.exists = place.valid = true;
      do_quad(args, place, d, stage.wide);
    });
  }

  /// A product with fewer quads of columns than there are CTAs is everyone's own: a CTA that sent
  /// nothing would not say that it has read what came.
  __device__ bool is_shared(const Stage& stage) const {
    return plan_.ctas > 1 && (stage.D + 3) / 4 >= plan_.ctas;
  }
  __device__ SharedAddress barrier_of(const Stage& stage, int parity) const {
    return received_ + 8u * static_cast<unsigned>(2 * stage.number + parity);
  }
  /// For the sums of a step that is taken.
  __device__ void arm(const Stage& stage, std::int64_t step) const {
    if (step >= end_) return;
    const std::int64_t bytes = rows_at(step) * ((stage.D + 3) / 4) * 16;
    mbarrier_arm(barrier_of(stage, parity_of(step)), static_cast<unsigned>(bytes));
  }
  __device__ int parity_of(std::int64_t step) const {
    return static_cast<int>((step - begin_) & 1);
  }

  __device__ void multiply(const Stage& stage, std::int64_t step) const {
    const DenseArgs<float>& args = arguments_of<DenseArgs<float>>(stage);
    const PlainWeights<float>& W = args.W;
    const bool shared = is_shared(stage);
    const ColumnShare share(W.N, W.transposed, shared ? rank_ : 0, shared ? plan_.ctas : 1);
    const auto x = [&](int row) { return args.x[row]; };
    const bool by_quads = W.stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(W.data) % 16 == 0;
    const bool x_by_quads =
        args.x.stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(args.x.data) % 16 == 0;
    if (W.transposed) {
      multiply_transposed(W, x, rows_, share, by_quads && W.N % 4 == 0, partial_);
    } else {
      multiply_plain(W, x, rows_, share, by_quads && x_by_quads && W.K % 4 == 0, partial_);
    }
    __syncthreads();
    // Sums in the order of their parts, to everyone.
    const int parity = parity_of(step), quads = static_cast<int>((W.N + 3) / 4);
    float* const landing = landing_ + (parity * a_.landing + stage.landing) * plan_.group;
    const int width = 4 * share.count;
    for (int i = thread_; i < rows_ * share.count; i += kChainThreads) {
      const int row = i / share.count, q = i % share.count;
      float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      for (int part = 0; part < share.parts; ++part) {
        const float4 more =
            *reinterpret_cast<const float4*>(partial_ + (part * kChainRows + row) * width + 4 * q);
        sum = map4([](float a, float b) { return a + b; }, sum, more);
      }
      float* const at = landing + (row * quads + share.first + q) * 4;
      if (!shared) {
        *reinterpret_cast<float4*>(at) = sum;
        continue;
      }
      const SharedAddress own = shared_address(at), barrier = barrier_of(stage, parity);
      const uint4 words = make_uint4(__float_as_uint(sum.x), __float_as_uint(sum.y),
                                     __float_as_uint(sum.z), __float_as_uint(sum.w));
      for (int c = 0; c < plan_.ctas; ++c) {
        const unsigned to = static_cast<unsigned>((rank_ + c) % plan_.ctas);
        st_async(map_shared(own, to), words, map_shared(barrier, to));
      }
    }
    if (!shared) {
      __syncthreads();
    } else {
      mbarrier_wait(barrier_of(stage, parity), static_cast<unsigned>((step - begin_) >> 1) & 1);
      __syncwarp();  // lanes may have polled a different number of times
      if (thread_ == 0) arm(stage, step + 2);
    }
    each_quad(stage, [&](int row, int d) {
      float4 y = *reinterpret_cast<const float4*>(landing + row * quads * 4 + d);
      const auto plus = [](float a, float b) { return a + b; };
      if (args.bias != nullptr) y = map4(plus, y, load_quad(args.bias, d, W.N, false));
      if (args.addend) y = map4(plus, y, load_quad(args.addend[row], d, W.N, stage.wide));
      const Activation kind = args.activation;
      if (kind != Activation::identity) y = map4([&](float v) { return activate(kind, v); }, y);
      store_quad(args.y[row], d, W.N, stage.wide, y);
    });
  }

  __device__ __forceinline__ void run(const Stage& stage, std::int64_t step) const {
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
  Stage* table_;
  float *slots_, *landing_, *partial_;
  SharedAddress received_;
  int thread_, rank_, rows_ = 0;                      // rows_: of this cluster, now
  std::int64_t first_row_ = 0, begin_ = 0, end_ = 0;  // steps taken that these rows have
};

__global__ void __launch_bounds__(kChainThreads, 1)
    run_chain(const __grid_constant__ ChainArgs<float> a, const __grid_constant__ ChainPlan plan) {
  Worker worker(a, plan, &shared_storage<unsigned char>());
  worker.begin();
  worker.run_steps();
  worker.clear_spare();
}

constexpr std::int64_t kWeightsOfCta = 16384;  // elements: what stays in L1 beside the slots

/// CTAs that share the products' weights, of a device that has clusters.
int ctas_of(const ChainArgs<float>& a) {
  if (a.cluster > 0) return static_cast<int>(a.cluster);
  int ctas = 1;
  while (ctas < 8 && a.weights > ctas * kWeightsOfCta) ctas *= 2;
  return ctas;
}

LaunchShape shape_of(const ChainArgs<float>& a, const ChainPlan& plan) {
  LaunchShape shape{
      blocks_for(a.rows > 0 ? a.rows : 1, plan.group) * static_cast<unsigned>(plan.ctas),
      kChainThreads, plan.at.bytes};
  shape.cluster = static_cast<unsigned>(plan.ctas);
  return shape;
}

/// The fewest rows a cluster for which all clusters run side by side; the most that fit, where
/// none.
bool plan_chain(const ChainArgs<float>& a, ChainPlan& plan) {
  bool found = false;
  const int most = device_limit(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  const bool has_clusters = device_limit(cudaDevAttrComputeCapabilityMajor) >= 9;
  for (int ctas = has_clusters ? ctas_of(a) : 1; ctas >= 1 && !found; ctas /= 2) {
    for (int group = 1; group <= kChainRows; ++group) {
      const ChainLayout at = layout_of(a, group, ctas);
      if (at.bytes > static_cast<unsigned>(most)) break;
      plan = {group, ctas, at}, found = true;
      const std::int64_t clusters = (a.rows + group - 1) / group;
      const int side_by_side = ctas == 1 ? device_limit(cudaDevAttrMultiProcessorCount)
                                         : max_active_clusters(run_chain, shape_of(a, plan));
      if (clusters <= side_by_side) break;
    }
    if (a.cluster > 0) break;
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
