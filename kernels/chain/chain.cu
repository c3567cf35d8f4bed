// A chain in one kernel for all steps. A cluster of C CTAs takes up to 8 rows through all of them
// and needs no other cluster. Each CTA has the slots of all its rows in shared memory, and runs
// every stage on them by itself: what a stage costs is a few instructions a row and column, less
// than telling others of it. Products alone are shared out, by columns: their weights are what does
// not fit one CTA. A CTA's sums go to all CTAs by st_async, and each finishes (bias, addend,
// activation) for itself.
//
//     table       the stages' arguments in shared memory, where threads read them; at a step's end
//                 the addresses of matrices outside of the slots move on by a step
//     inputs      what a step reads from outside, two buffers by the parity of the step: cp_async
//                 brings the next step's while this one runs
//     weights     the CTA's columns of the products' weights, as [K][columns], from the first step
//                 to the last; of products that do not fit they are read from L2 at every step
//     landing     of products whose results cannot be sent to their slots
//     stores      stages that write outside of the slots: each CTA its share of the quads
//
// Floor: a step's products from shared memory (4 bytes of weights a multiply-add of up to 8 rows,
// 128 bytes a cycle), the latency of an exchange a product (0.37 us in a cluster of 8 on an H200).
// Hazards: a stage whose `waits` is set reads what other threads wrote since all last met, or
// writes what they read: a __syncthreads before it. A product has one of its own, between its
// partial sums and their addition, so after all have read x and before the first y is written.
// Arguments move on after all are through with a step and before the next begins: two more. Partial
// sums are written again after all of the product before is in from everyone, own threads too. A
// buffer of `landing` is sent to again two steps on, after all of the step between is in from
// everyone, which they sent after they had read it. Nobody ends before all that is sent to it is
// in.
#include <algorithm>
#include <bit>

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
constexpr int kOperands = static_cast<int>(Stage::kOperands);

/// A matrix outside of the slots that moves and is read, where the step stands that comes next.
struct Input {
  const float* data;
  std::int64_t stride, step;  ///< elements from a row, a step taken, to the next
  int column, width;          ///< among the inputs' columns
  bool is_packed, is_carried, quads;
};

/// What adds up from step to step: an address, in bytes, or a time.
struct Mover {
  unsigned at;  ///< where it stands in shared memory
  unsigned kind;
  static constexpr unsigned kOfInput = 1, kOfCarry = 2;
  std::int64_t a_row, a_step,
      other;  ///< added a packed row, a step; at every other step, else less
};

/// Where things stand in a CTA's shared memory, in bytes.
struct ChainLayout {
  unsigned table, sources, movers, products, slots, inputs, landing, biases, partial, received,
      weights, bytes;
};

/// What a launch is: rows of a cluster, CTAs of it, products whose weights stay, and the rest.
struct ChainPlan {
  int group, ctas;
  unsigned staying;  ///< a bit each
  ChainLayout at;
};

SEQVAE_HOST_DEVICE inline unsigned padded(std::int64_t columns) {
  return static_cast<unsigned>((columns + 3) / 4 * 4);
}
unsigned padded_bytes(std::int64_t bytes) { return static_cast<unsigned>((bytes + 15) / 16 * 16); }

/// All but the weights, which come last. Inputs follow the slots.
ChainLayout layout_of(const ChainArgs<float>& a, int group) {
  ChainLayout at{};
  const auto take = [&](std::int64_t bytes) {
    const unsigned begin = at.bytes;
    at.bytes += padded_bytes(bytes);
    return begin;
  };
  at.table = take((a.starts + a.carries + a.stages) * static_cast<std::int64_t>(sizeof(Stage)));
  at.sources = take(a.inputs * static_cast<std::int64_t>(sizeof(Input)));
  at.movers = take((a.movers + a.inputs) * static_cast<std::int64_t>(sizeof(Mover)));
  at.products = take(a.products * static_cast<std::int64_t>(sizeof(ProductShare)));
  at.slots = take(4 * rows_read(group) * a.columns);
  at.inputs = take(2 * 4 * rows_read(group) * a.input_columns);
  at.landing = take(a.lands ? 2 * 4 * group * a.landing : 0);
  at.biases = take(4 * a.landing);
  at.partial = take(4 * partial_sums_of(a.widest, group));
  at.received = take(16 * a.products);
  at.weights = at.bytes;
  return at;
}

/// Whether the columns of a product are shared out. One with fewer quads of columns than there are
/// CTAs is everyone's own: a CTA that sent nothing would not say that it has read what came.
SEQVAE_HOST_DEVICE inline bool is_shared(std::int64_t N, int ctas) {
  return ctas > 1 && (N + 3) / 4 >= ctas;
}

/// Bytes of a product's weights in one CTA, at most.
SEQVAE_HOST_DEVICE inline unsigned weight_bytes(std::int64_t N, std::int64_t K, int ctas) {
  const std::int64_t quads = (N + 3) / 4;
  return static_cast<unsigned>(16 * K * (is_shared(N, ctas) ? (quads + ctas - 1) / ctas : quads));
}

template <class Args>
__device__ __forceinline__ const Args& arguments_of(const Stage& stage) {
  return *reinterpret_cast<const Args*>(stage.arguments);
}

/// One CTA's view of the chain.
class Worker {
 public:
  __device__ Worker(const ChainArgs<float>& a, const ChainPlan& plan, unsigned char* shared)
      : a_(a), plan_(plan), shared_(shared), thread_(static_cast<int>(threadIdx.x)) {
    first_row_ = static_cast<int>(blockIdx.x) / plan.ctas * plan.group;
    begin_ = 0, end_ = a.rows > 0 ? static_cast<int>(a.T) : 0;
    if (a.offsets == nullptr) return;
    int steps = 0, beyond = end_;  // that the first of these rows has: rows only end
    while (steps < beyond) {
      const int middle = (steps + beyond) / 2;
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
    const int words = all() * static_cast<int>(sizeof(Stage) / sizeof(uint4));
    for (int i = thread_; i < words; i += kChainThreads) {
      reinterpret_cast<uint4*>(table())[i] = reinterpret_cast<const uint4*>(a_.table)[i];
    }
    now_ = place_of(begin_, offsets_of(begin_));
    next_ = place_of(begin_ + 1, offsets_of(begin_ + 1));
    const int memory = rows_read(plan_.group) * static_cast<int>(a_.columns + 2 * a_.input_columns);
    for (int i = thread_; i < memory; i += kChainThreads) slots()[i] = 0.0f;
    __syncthreads();
    aim(begin_, now_);
    __syncthreads();
    ask_for_inputs(begin_, now_.rows);
    bring_weights();
    cp_async_wait<0>();
    __syncthreads();
    aim(begin_ + 1, next_);
    __syncthreads();
    point_stages();
    __syncthreads();
    find_quick();
    if (plan_.ctas > 1) {
      if (thread_ == 0) {
        for (unsigned i = 0; i < 2 * a_.products; ++i) mbarrier_init(received() + 8 * i, 1);
        mbarrier_init_fence();
      }
      cluster_barrier();
    } else {
      __syncthreads();
    }
  }

  __device__ void run_steps() {
    for (int step = begin_; step < end_; ++step) {
      if (a_.products == 0) ask_for_inputs(step + 1, next_.rows);
      run_stages(step);
      __syncthreads();
      const Offsets later = offsets_of(step + 2);
      store(step);
      const Place after = place_of(step + 2, later);
      move_on(step, after.first - next_.first);
      cp_async_wait<0>();
      __syncthreads();
      now_ = next_, next_ = after;
    }
  }

  /// Zeros in packed rows that no sequence has; all blocks share them.
  __device__ void clear_spare() const {
    if (a_.offsets == nullptr) return;
    const std::int64_t used = a_.offsets[a_.T] * a_.K, spare = a_.capacity - used;
    const std::int64_t apart = std::int64_t{gridDim.x} * kChainThreads;
    for (int i = starts() + carries(); i < all(); ++i) {
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
  /// \name The block's shared memory
  /// \{
  __device__ Stage* table() const { return reinterpret_cast<Stage*>(shared_ + plan_.at.table); }
  __device__ Input* sources() const { return reinterpret_cast<Input*>(shared_ + plan_.at.sources); }
  __device__ Mover* movers() const { return reinterpret_cast<Mover*>(shared_ + plan_.at.movers); }
  __device__ ProductShare* products() const {
    return reinterpret_cast<ProductShare*>(shared_ + plan_.at.products);
  }
  __device__ float* floats(unsigned at) const { return reinterpret_cast<float*>(shared_ + at); }
  __device__ float* slots() const { return floats(plan_.at.slots); }
  __device__ float* inputs() const { return floats(plan_.at.inputs); }
  __device__ float* landing() const { return floats(plan_.at.landing); }
  __device__ float* biases() const { return floats(plan_.at.biases); }
  __device__ float* partial() const { return floats(plan_.at.partial); }
  __device__ float* weights() const { return floats(plan_.at.weights); }
  __device__ SharedAddress received() const { return shared_address(shared_ + plan_.at.received); }
  /// \}

  __device__ int rank() const { return plan_.ctas > 1 ? static_cast<int>(cluster_rank()) : 0; }

  /// \name The table's stages
  /// \{
  __device__ int starts() const { return static_cast<int>(a_.starts); }
  __device__ int carries() const { return static_cast<int>(a_.carries); }
  __device__ int all() const { return starts() + carries() + static_cast<int>(a_.stages); }
  __device__ int stores() const { return static_cast<int>(a_.stores); }
  /// \}

  /// Rows of a step taken: where they begin among the packed ones, and how many are this cluster's.
  struct Place {
    int first, rows;
  };

  /// Rows of all clusters at step t, of the steps in the order of time.
  __device__ std::int64_t rows_of_step(std::int64_t t) const {
    return (a_.offsets[t + 1] - a_.offsets[t]) * a_.K;
  }
  /// What place_of needs from memory, apart, so that it can be on its way.
  struct Offsets {
    int first, end;
  };
  __device__ Offsets offsets_of(int step) const {
    if (step >= end_ || a_.offsets == nullptr) return {0, static_cast<int>(a_.rows / a_.K)};
    const int T = static_cast<int>(a_.T), t = a_.time > 0 ? step : T - 1 - step;
    return {a_.offsets[t], a_.offsets[t + 1]};
  }
  __device__ Place place_of(int step, Offsets of) const {
    const int K = static_cast<int>(a_.K), left = (of.end - of.first) * K - first_row_;
    if (step >= end_) return {0, 0};
    return {of.first * K, left < plan_.group ? left : plan_.group};
  }
  __device__ int parity_of(int step) const { return static_cast<int>((step - begin_) & 1); }
  /// The list that a stage of the table is of: carries run from step 1 on.
  __device__ bool is_carry(int i) const { return i >= starts() && i < starts() + carries(); }

  __device__ static Rows<float>& rows_of(Stage& stage, int operand) {
    return *reinterpret_cast<Rows<float>*>(stage.arguments + stage.operand[operand].at);
  }
  /// Of a matrix outside of the slots whose rows at the first step that it is for are `data`: of
  /// this cluster at a step taken, which has its packed rows at `place`.
  __device__ float* data_at(const Rows<float>& rows, const ChainOperand& operand, int i, int step,
                            Place place) const {
    if (operand.is_packed) return rows.data + std::int64_t{place.first + first_row_} * rows.stride;
    const int number = step - (is_carry(i) ? 1 : 0);
    return rows.data + first_row_ * rows.stride + operand.step * number;
  }

  /// Inputs as those of a step taken, by the table as it was given.
  __device__ void aim(int step, Place place) const {
    for (int i = thread_; i < all() * kOperands; i += kChainThreads) {
      Stage& stage = table()[i / kOperands];
      const ChainOperand& operand = stage.operand[i % kOperands];
      if (i % kOperands >= stage.operands || operand.input < 0) continue;
      const Rows<float>& rows = rows_of(stage, i % kOperands);
      const float* data = data_at(rows, operand, i / kOperands, step, place);
      const bool quads = operand.width % 4 == 0 && rows.stride % 4 == 0 && operand.step % 4 == 0 &&
                         reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
      sources()[operand.input] = {data,
                                  rows.stride,
                                  operand.step,
                                  operand.column,
                                  operand.width,
                                  operand.is_packed,
                                  is_carry(i / kOperands),
                                  quads};
    }
  }

  /// What the stages of a step to come read from outside, a warp a row of a matrix, the last warps
  /// first, as the others send.
  __device__ void ask_for_inputs(int step, int rows) const {
    const int lane = thread_ % kWarpSize, count = static_cast<int>(a_.inputs);
    float* const to = inputs() + parity_of(step) * rows_read(plan_.group) * a_.input_columns;
    for (int i = kChainWarps - 1 - thread_ / kWarpSize, row = 0; row < rows; i += kChainWarps) {
      while (i >= count && row < rows) i -= count, ++row;
      if (row >= rows) break;
      const Input input = sources()[i];
      if (input.is_carried && step == 0) continue;
      const float* const from = input.data + row * input.stride;
      float* const place = to + row * a_.input_columns + input.column;
      if (input.quads) {
        for (int d = 4 * lane; d < input.width; d += 4 * kWarpSize) cp_async16(place + d, from + d);
      } else {
        for (int d = lane; d < input.width; d += kWarpSize) cp_async4(place + d, from + d);
      }
    }
    cp_async_commit();
  }

  /// This CTA's share of a product.
  __device__ ProductShare share_of(const Stage& stage) const {
    const DenseArgs<float>& args = arguments_of<DenseArgs<float>>(stage);
    const PlainWeights<float>& W = args.W;
    const int N = static_cast<int>(W.N), K = static_cast<int>(W.K), quads = (N + 3) / 4;
    ProductShare share{};
    share.shared = is_shared(N, plan_.ctas);
    const int ctas = share.shared ? plan_.ctas : 1, rank = share.shared ? this->rank() : 0;
    share.first = quads * rank / ctas, share.count = quads * (rank + 1) / ctas - share.first;
    share.by_count = Divisor::of(share.count);
    const int width = 4 * share.count, first = 4 * share.first;
    const bool aligned = W.stride % 4 == 0 && reinterpret_cast<std::uintptr_t>(W.data) % 16 == 0;
    const int columns = N - first < width ? N - first : width;
    if ((plan_.staying >> stage.number & 1) != 0) {
      float* at = weights();
      for (int i = 0; i < stage.number; ++i) {
        const auto [n, k] = a_.product[i];
        if ((plan_.staying >> i & 1) != 0) at += weight_bytes(n, k, plan_.ctas) / 4;
      }
      share.W = {at, width, width, K, false, true, true};
    } else if (W.transposed) {
      share.W = {W.data + first, W.stride, columns, K, false, aligned && N % 4 == 0, false};
    } else {
      share.W = {W.data + first * W.stride, W.stride, columns, K, true,
                 aligned && K % 4 == 0,     false};
    }
    share.parts = parts_of(share.W, share.count);
    return share;
  }

  /// Biases, and the CTA's columns of the weights that stay, as [K][columns]; zeros beyond the
  /// last.
  __device__ void bring_weights() const {
    for (int i = 0; i < all(); ++i) {
      if (table()[i].op != ChainOp::dense) continue;
      DenseArgs<float>& args = *reinterpret_cast<DenseArgs<float>*>(table()[i].arguments);
      const ProductShare share = share_of(table()[i]);
      const PlainWeights<float> W = args.W;
      float* const bias = biases() + table()[i].landing;
      for (int n = thread_; args.bias != nullptr && n < static_cast<int>(padded(W.N));
           n += kChainThreads) {
        bias[n] = n < W.N ? args.bias[n] : 0.0f;
      }
      // Eight elements of K by four columns a warp: sectors of lines in, banks apart out.
      const int lane = thread_ % kWarpSize, width = 4 * share.count;
      float* const to = const_cast<float*>(share.W.data);
      for (int q = thread_ / kWarpSize; share.W.stays && q < share.count; q += kChainWarps) {
        const int n = 4 * q + lane / 8, column = 4 * share.first + n;
        const std::int64_t apart = W.transposed ? W.stride : 1;
        const float* const from = W.data + column * (W.transposed ? 1 : W.stride);
        for (int k = lane % 8; k < W.K; k += 8) {
          if (column < W.N) {
            cp_async4(to + k * width + n, from + k * apart);
          } else {
            to[k * width + n] = 0.0f;
          }
        }
      }
      __syncthreads();  // all have read where they were
      if (thread_ > 0) continue;
      products()[table()[i].number] = share;
      if (args.bias != nullptr) args.bias = bias;
    }
    cp_async_commit();
  }

  /// Addresses and times as the first step that runs a stage has them, and how they move.
  __device__ void point_stages() const {
    for (int i = thread_; i < all() * kOperands; i += kChainThreads) {
      Stage& stage = table()[i / kOperands];
      const bool carry = is_carry(i / kOperands);
      const bool later = carry && begin_ == 0;  // it is first run at step 1
      const unsigned of = carry ? Mover::kOfCarry : 0;
      if (i % kOperands == 0 && stage.mover >= 0) {
        std::int64_t& time = time_of(stage);
        time += a_.time * (begin_ - (carry && begin_ > 0 ? 1 : 0));
        movers()[stage.mover] = {offset_of(&time), of, 0, a_.time, 0};
      }
      if (i % kOperands >= stage.operands) continue;
      const ChainOperand& operand = stage.operand[i % kOperands];
      Rows<float>& rows = rows_of(stage, i % kOperands);
      Mover mover{offset_of(&rows.data), of, 0, 0, 0};
      if (operand.is_slot) {
        rows.data = slots() + reinterpret_cast<std::uintptr_t>(rows.data) / sizeof(float);
        rows.stride = a_.columns, mover.other = 4 * operand.column;
        if (carry) rows.data += operand.column, mover.other *= -1;  // where the step before had it
      } else if (operand.input >= 0) {
        rows.data = inputs() + operand.column, rows.stride = a_.input_columns;
        mover.other = 4 * rows_read(plan_.group) * a_.input_columns;
      } else if (rows.data != nullptr) {
        const bool stored = i / kOperands >= all() - stores();
        (operand.is_packed ? mover.a_row : mover.a_step) =
            4 * (operand.is_packed ? rows.stride : operand.step);
        rows.data = stored ? rows.data + first_row_ * rows.stride
                           : data_at(rows, operand, i / kOperands, later ? 1 : begin_,
                                     later ? next_ : now_);
      }
      if (operand.mover >= 0) movers()[operand.mover] = mover;
    }
    for (int i = thread_; i < a_.inputs; i += kChainThreads) {
      Input& input = sources()[i];
      movers()[a_.movers + i] = {offset_of(&input.data), Mover::kOfInput,
                                 input.is_packed ? 4 * input.stride : 0,
                                 input.is_packed ? 0 : 4 * input.step, 0};
    }
  }

  /// Of products of which all is in shared memory, in whole quads.
  __device__ void find_quick() const {
    for (int i = thread_; i < all(); i += kChainThreads) {
      if (table()[i].op != ChainOp::dense) continue;
      const Rows<const float>& x = arguments_of<DenseArgs<float>>(table()[i]).x;
      ProductShare& share = products()[table()[i].number];
      share.quick = share.W.stays && share.W.K % 4 == 0 && x.stride % 4 == 0 &&
                    is_in_shared(x.data) && reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0;
    }
  }

  /// All addresses and times to the next step taken, and inputs to the one after it, whose packed
  /// rows begin so many on from those of the next.
  __device__ void move_on(int step, int later) const {
    const int count = static_cast<int>(a_.movers + a_.inputs);
    for (int i = thread_; i < count; i += kChainThreads) {
      const Mover mover = movers()[i];
      auto& value = *reinterpret_cast<std::int64_t*>(shared_ + mover.at);
      const int rows = mover.kind == Mover::kOfInput ? later : next_.first - now_.first;
      const std::int64_t step_on = mover.kind == Mover::kOfCarry && step == 0 ? 0 : mover.a_step;
      value += rows * mover.a_row + step_on + (parity_of(step) == 0 ? mover.other : -mover.other);
    }
  }

  __device__ unsigned offset_of(const void* place) const {
    return static_cast<unsigned>(static_cast<const unsigned char*>(place) - shared_);
  }
  __device__ static std::int64_t& time_of(Stage& stage) {
    return stage.op == ChainOp::gaussian_sample
               ? reinterpret_cast<GaussianSampleArgs<float>*>(stage.arguments)->noise.layout.t0
               : reinterpret_cast<GaussianSampleBackwardArgs<float>*>(stage.arguments)
                     ->noise.layout.t0;
  }

  /// One place for all stages: the code of a stage is long, and is not to be there twice.
  __device__ void run_stages(int step) const {
    for (int i = step == 0 ? 0 : starts(); i < all() - stores(); ++i) {
      if (is_carry(i) && step == 0) continue;
      const Stage& stage = table()[i];
      if (stage.waits) __syncthreads();
      run(stage, step);
    }
  }

  /// What leaves the slots at the end of a step: a warp of the cluster a row of a matrix, the last
  /// warps first, as the others move addresses on.
  __device__ void store(int step) const {
    const int rows = stores() * now_.rows;
    const int warp = (kChainWarps - 1 - thread_ / kWarpSize) * plan_.ctas + rank();
    const int lane = thread_ % kWarpSize;
    for (int i = warp; i < rows; i += kChainWarps * plan_.ctas) {
      const int row = i / stores();
      const Stage& stage = table()[all() - (row + 1) * stores() + i];
      MultiplyAddArgs<float> args = arguments_of<MultiplyAddArgs<float>>(stage);
      const ChainOperand& to = stage.operand[3];
      args.y.data += to.is_packed ? std::int64_t{now_.first} * args.y.stride : to.step * step;
      if (parity_of(step) != 0) {
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
    const int quads = static_cast<int>((stage.D + 3) / 4), all = now_.rows * quads;
    const int first = stage.leaves ? rank() * kChainThreads : 0;
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
      const unsigned number = static_cast<unsigned>(first_row_) + row;
      const unsigned K = static_cast<unsigned>(layout.K), b = K == 1 ? number : number / K;
      place.row = row, place.b = b, place.k = number - b * K;
      place.t = layout.t0 + (layout.origins != nullptr ? layout.origins[place.b] : 0);
      place.exists = place.valid = true;
      do_quad(args, place, d, stage.wide);
    });
  }

  __device__ SharedAddress barrier_of(const Stage& stage, int parity) const {
    return received() + 8u * static_cast<unsigned>(2 * stage.number + parity);
  }
  __device__ void multiply(const Stage& stage, int step) const {
    const DenseArgs<float>& args = arguments_of<DenseArgs<float>>(stage);
    const ProductShare& share = products()[stage.number];
    const bool shared = share.shared;
    const int count = share.count, parts = share.parts, parity = parity_of(step);
    const SharedAddress barrier = barrier_of(stage, parity);
    if (shared && thread_ == 0) mbarrier_arm(barrier, 4 * now_.rows * padded(stage.D));
    // Each sum is added up, finished and sent by eight lanes: lane j adds every eighth part from j
    // on, and the eight meet by halves. The first addend is on its way during the product.
    const int all = now_.rows * count, j = thread_ % 8, mine = thread_ / 8;
    const auto addend_of = [&](int i) {
      const int row = share.by_count.divide(i), q = share.first + i - row * count;
      return load_quad(args.addend[row], 4 * q, stage.D, stage.wide);
    };
    float4 addend = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (args.addend && mine < all) addend = addend_of(mine);
    const ShareRows x{args.x.data, args.x.stride, now_.rows,
                      share.quick || (args.x.stride % 4 == 0 && share.W.K % 4 == 0 &&
                                      reinterpret_cast<std::uintptr_t>(args.x.data) % 16 == 0)};
    const int R = multiply_share(share, x, partial());
    __syncthreads();
    float* const to =
        stage.lands ? landing() + parity * plan_.group * a_.landing + stage.landing : args.y.data;
    const int to_stride = static_cast<int>(stage.lands ? a_.landing : args.y.stride);
    for (int i = mine; i - thread_ % kWarpSize / 8 < all; i += kChainThreads / 8) {
      const int row = share.by_count.divide(i), q = i - row * count;
      float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 4
      for (int part = j; part < (i < all ? parts : 0); part += 8) {
        sum = plus4(
            sum, *reinterpret_cast<const float4*>(partial() + ((part * R + row) * count + q) * 4));
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
        const unsigned cta = static_cast<unsigned>((rank() + c) & (plan_.ctas - 1));
        st_async(map_shared(own, cta), words, map_shared(barrier, cta));
      }
    }
    if (stage.number == 0) ask_for_inputs(step + 1, next_.rows);  // while the sums are on their way
    if (!shared) {
      __syncthreads();
    } else {
      mbarrier_wait(barrier, static_cast<unsigned>((step - begin_) >> 1) & 1);
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
  unsigned char* shared_;
  int thread_;
  int first_row_ = 0, begin_ = 0, end_ = 0;  // steps taken that these rows have
  Place now_{}, next_{};                     // of the step that runs and of the one to come
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
