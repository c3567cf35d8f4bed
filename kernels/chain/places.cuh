// Where the matrices of a chain stand, in one CTA, step by step: a CTA's copy of the table, with
// addresses that move on, and its part of what the stages read.
//
//     table       the stages' arguments, in shared memory, where threads read them; at a step's end
//                 addresses of matrices that stand elsewhere in the next move on
//     inputs      what a step reads from outside, two buffers by the parity of the step: cp_async
//                 brings the next step's while this one runs
//     weights     the CTA's columns of the products' weights, as [K][columns], from the first step
//                 to the last; of products that do not fit they are read from L2 at every step
//     slots       values of the loop; those that neighbouring steps may overlap in have two places
//
// Hazards: a step's arguments move on after all are through with it and before the next begins: a
// __syncthreads before move_on, the caller's, and one in it. Inputs are in once the asking threads
// have waited and all have met.
#pragma once
#include "kernels/chain/product.cuh"
#include "kernels/common/cluster.cuh"
#include "seqvae/kernels/chain.hpp"

namespace seqvae::cuda {

static_assert(sizeof(ChainStage<float>) % sizeof(uint4) == 0);

/// A matrix outside of the slots that moves and is read, where the step stands that comes next.
struct ChainInput {
  const float* data;
  std::int64_t stride, step;  ///< elements from a row, a step taken, to the next
  int column, width;          ///< among the inputs' columns
  bool is_packed, is_carried, quads;
};

/// What adds up from step to step: an address, in bytes, or a time.
struct ChainMover {
  unsigned at;    ///< where it stands in shared memory
  unsigned kind;  ///< of these, or neither
  static constexpr unsigned kOfInput = 1, kOfCarry = 2;
  std::int64_t a_row, a_step;  ///< added a packed row, a step
  std::int64_t other;          ///< added at every other step, and taken away at those between
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
inline unsigned padded_bytes(std::int64_t bytes) {
  return static_cast<unsigned>((bytes + 15) / 16 * 16);
}

/// All but the weights, which come last. Inputs follow the slots.
inline ChainLayout layout_of(const ChainArgs<float>& a, int group) {
  ChainLayout at{};
  const auto take = [&](std::int64_t bytes) {
    const unsigned begin = at.bytes;
    at.bytes += padded_bytes(bytes);
    return begin;
  };
  at.table = take((a.starts + a.carries + a.stages) *
                  static_cast<std::int64_t>(sizeof(ChainStage<float>)));
  at.sources = take(a.inputs * static_cast<std::int64_t>(sizeof(ChainInput)));
  at.movers = take((a.movers + a.inputs) * static_cast<std::int64_t>(sizeof(ChainMover)));
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
__device__ __forceinline__ const Args& arguments_of(const ChainStage<float>& stage) {
  return *reinterpret_cast<const Args*>(stage.arguments);
}

/// One CTA's view of a chain.
class ChainPlaces {
 public:
  using Stage = ChainStage<float>;
  using Input = ChainInput;
  using Mover = ChainMover;
  static constexpr int kOperands = static_cast<int>(Stage::kOperands);

  __device__ ChainPlaces(const ChainArgs<float>& a, const ChainPlan& plan, unsigned char* shared)
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

  /// Steps taken that these rows have.
  __device__ int begin_step() const { return begin_; }
  __device__ int end_step() const { return end_; }
  __device__ int first_row() const { return first_row_; }
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

  __device__ Place now() const { return now_; }
  __device__ Place next() const { return next_; }

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

  /// To the next step: all addresses and times move on, and inputs to the step after it.
  /// \param later: offsets_of(step + 2)
  __device__ void move_on(int step, Offsets later) {
    const Place after = place_of(step + 2, later);
    const int count = static_cast<int>(a_.movers + a_.inputs);
    for (int i = thread_; i < count; i += kChainThreads) {
      const Mover mover = movers()[i];
      auto& value = *reinterpret_cast<std::int64_t*>(shared_ + mover.at);
      const int rows =
          mover.kind == Mover::kOfInput ? after.first - next_.first : next_.first - now_.first;
      const bool stays = mover.kind == Mover::kOfCarry && step == 0;
      value += rows * mover.a_row + (stays ? 0 : mover.a_step) +
               (parity_of(step) == 0 ? mover.other : -mover.other);
    }
    cp_async_wait<0>();
    __syncthreads();
    now_ = next_, next_ = after;
  }

 private:
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

  __device__ unsigned offset_of(const void* place) const {
    return static_cast<unsigned>(static_cast<const unsigned char*>(place) - shared_);
  }
  __device__ static std::int64_t& time_of(Stage& stage) {
    return stage.op == ChainOp::gaussian_sample
               ? reinterpret_cast<GaussianSampleArgs<float>*>(stage.arguments)->noise.layout.t0
               : reinterpret_cast<GaussianSampleBackwardArgs<float>*>(stage.arguments)
                     ->noise.layout.t0;
  }

  const ChainArgs<float>& a_;
  const ChainPlan& plan_;
  unsigned char* shared_;
  int thread_;
  int first_row_ = 0, begin_ = 0, end_ = 0;
  Place now_{}, next_{};  // of the step that runs and of the one to come
};

}  // namespace seqvae::cuda
