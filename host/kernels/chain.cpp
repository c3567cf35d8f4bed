// How stages are made, and the checks of a chain.
#include "host/kernels/chain.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "host/kernels/check_rows.hpp"

namespace seqvae {
namespace {

template <class Real>
std::uintptr_t address(const Real* p) {
  return reinterpret_cast<std::uintptr_t>(p);
}

/// Four components at a time: the rows of every step begin at multiples of 16 bytes.
template <class Rows>
bool fits_quads(const Rows& rows, const ChainOperand& operand) {
  return address(rows.data) % 16 == 0 && rows.stride % 4 == 0 && operand.step % 4 == 0;
}

}  // namespace

template <class Args, class Real>
ChainStage<Real> chain_stage(const Args& first, const Args& next, const ChainFrame<Real>& frame) {
  static_assert(std::is_trivially_copyable_v<Args> && sizeof(Args) <= ChainStage<Real>::kBytes);
  ChainStage<Real> stage;
  stage.op = op_of(first);
  stage.D = columns_of(first);
  Args args = first, after = next;
  std::int64_t steps[ChainStage<Real>::kOperands] = {};
  std::size_t count = 0;
  for_each_rows(after, [&](auto& rows, std::int64_t) {
    steps[count++] = static_cast<std::int64_t>(address(rows.data));
  });
  stage.operands = static_cast<std::int32_t>(count);
  stage.wide = stage.D % 4 == 0;
  const std::uint64_t quads = static_cast<std::uint64_t>(stage.D + 3) / 4;
  stage.per_row = quads > 1 ? static_cast<std::uint32_t>((1ull << 32) / quads + 1) : 0;
  std::size_t i = 0;
  bool stays = false;
  for_each_rows(args, [&](auto& rows, std::int64_t width) {
    ChainOperand& operand = stage.operand[i];
    operand.width = static_cast<std::int32_t>(width);
    operand.at = static_cast<std::uint16_t>(reinterpret_cast<std::byte*>(&rows) -
                                            reinterpret_cast<std::byte*>(&args));
    const Real* data = rows.data;
    operand.step = (steps[i] - static_cast<std::int64_t>(address(data))) /
                   static_cast<std::int64_t>(sizeof(Real));
    // At time 0: addresses of later steps may lie beyond the memory, among another's.
    const Real* begin = data - operand.step * frame.time * frame.t;
    operand.is_slot = data != nullptr && operand.step == 0 && data >= frame.slots &&
                      data < frame.slots + frame.columns;
    const bool fixed = begin >= frame.fixed && begin < frame.fixed + frame.fixed_count;
    operand.is_packed = frame.B > 0 && operand.step != 0 && !fixed;
    ++i;
    if (data == nullptr) return;
    using Data = decltype(rows.data);
    constexpr bool kWritten = !std::is_const_v<std::remove_pointer_t<Data>>;
    (operand.is_slot ? stays : stage.leaves) |= kWritten;
    if (operand.is_slot) {
      require(rows.stride == frame.columns, "chain", "stride of a slot", rows.stride,
              fmt::format("{}, at the same place in each step", frame.columns));
      rows.data = reinterpret_cast<Data>(address(data) - address(frame.slots));
    }
    if (operand.is_packed) rows.data -= operand.step * frame.time * frame.t;
    // A condition of one column a row is read by itself.
    bool alone = false;
    if constexpr (requires { args.condition; }) {
      alone = args.by_row && static_cast<const void*>(&rows) == &args.condition;
    }
    if (!alone) stage.wide = stage.wide && fits_quads(rows, operand);
  });
  require(!stays || !stage.leaves, "chain", "outputs of a stage",
          "in the slots and outside of them", "one or the other");
  std::memcpy(stage.arguments, &args, sizeof args);
  return stage;
}

namespace {

/// Columns of the slots that a stage reads or writes.
struct Touch {
  std::int64_t begin, end, D;
  bool by_quads;  ///< the thread that has column d of D has it wherever the matrix begins
  bool is_written;
};

bool by_another_thread(const Touch& a, const Touch& b) {
  if (a.end <= b.begin || b.end <= a.begin || (!a.is_written && !b.is_written)) return false;
  return !a.by_quads || !b.by_quads || a.D != b.D || (a.begin - b.begin) % a.D != 0;
}

/// f(operand, its first column, whether it is written) for what a stage touches of the slots.
template <class Real, class F>
void for_each_slot(ChainStage<Real>& stage, F f) {
  std::size_t i = 0;
  with_arguments<Real>(stage, [&](auto& args) {
    for_each_rows(args, [&](auto& rows, std::int64_t) {
      ChainOperand& operand = stage.operand[i++];
      using Data = std::remove_pointer_t<std::remove_reference_t<decltype(rows.data)>>;
      const auto column = static_cast<std::int64_t>(address(rows.data) / sizeof(Real));
      if (operand.is_slot) f(operand, column, !std::is_const_v<Data>);
    });
  });
}

/// Says of each stage of a list that runs from first to last, each step anew, whether it waits. A
/// product lets all threads meet when they have read x and addend, and again when its result is
/// there.
template <class Real>
void find_waits(const std::vector<ChainStage<Real>*>& list) {
  std::vector<Touch> since, now;
  for (ChainStage<Real>* stage : list) {
    const bool dense = stage->op == ChainOp::dense;
    now.clear();
    for_each_slot(*stage, [&](ChainOperand& operand, std::int64_t column, bool is_written) {
      if (dense && is_written) return;
      now.push_back({column, column + operand.width, stage->D,
                     !dense && !stage->leaves && operand.width >= stage->D, is_written});
    });
    const bool waits = std::any_of(now.begin(), now.end(), [&](const Touch& mine) {
      return std::any_of(since.begin(), since.end(),
                         [&](const Touch& other) { return by_another_thread(mine, other); });
    });
    stage->waits = stage->waits || waits;
    if (waits || dense) since.clear();
    if (!dense) since.insert(since.end(), now.begin(), now.end());
  }
}

/// Where a product's result goes. It is sent to its slot, quads of columns at a time. Others of a
/// cluster may send that of the next step while here this step's is still read, unless a product
/// that all share has come between: up to the first that any cluster shares, results alternate
/// between two places. Where none of this can be, the result lands elsewhere first.
template <class Real>
void place_products(ChainStage<Real>* table, ChainArgs<Real>& args) {
  constexpr std::int64_t kSurelyShared = 61;  // columns: 16 quads
  const std::int64_t all = args.starts + args.carries + args.stages;
  bool alternates = true;
  args.lands = false;
  for (std::int64_t i = args.starts + args.carries; i < all; ++i) {
    ChainStage<Real>& stage = table[i];
    if (stage.op != ChainOp::dense) continue;
    std::int64_t begin = -1;
    for_each_slot(stage, [&](ChainOperand& operand, std::int64_t column, bool) {
      if (&operand == &stage.operand[2]) begin = column;
    });
    const std::int64_t end = begin + stage.D;
    std::vector<ChainOperand*> within;
    bool cut = false;
    for (std::int64_t other = 0; other < all; ++other) {
      for_each_slot(table[other], [&](ChainOperand& operand, std::int64_t column, bool) {
        if (column >= end || column + operand.width <= begin) return;
        cut = cut || column < begin || column + operand.width > end;
        within.push_back(&operand);
      });
    }
    stage.lands = begin < 0 || begin % 4 != 0 || stage.D % 4 != 0 || (alternates && cut);
    args.lands = args.lands || stage.lands;
    if (alternates && !stage.lands) {
      for (ChainOperand* operand : within) {
        operand->column = static_cast<std::int32_t>(args.columns - begin);
      }
      args.columns += stage.D;
    }
    alternates = alternates && stage.D < kSurelyShared;
  }
}

/// Numbers what stands elsewhere in the next step, of the stages that run anew then; stores know.
template <class Real>
void number_movers(ChainStage<Real>* begin, ChainStage<Real>* end, ChainArgs<Real>& args) {
  args.movers = 0;
  for (ChainStage<Real>* stage = begin; stage < end; ++stage) {
    stage->mover = -1;
    std::size_t i = 0;
    with_arguments<Real>(*stage, [&](auto& a) {
      if constexpr (requires { a.noise; }) {
        stage->mover = static_cast<std::int32_t>(args.movers++);
      }
      for_each_rows(a, [&](auto& rows, std::int64_t) {
        ChainOperand& operand = stage->operand[i++];
        const bool moves =
            operand.is_slot ? operand.column != 0 : rows.data != nullptr && operand.step != 0;
        operand.mover = moves ? static_cast<std::int32_t>(args.movers++) : -1;
      });
    });
  }
}

}  // namespace

template <class Real>
void arrange_chain(ChainStage<Real>* table, ChainArgs<Real>& args) {
  args.landing = args.widest = args.products = args.inputs = args.input_columns = 0;
  std::vector<ChainStage<Real>*> first, others;
  for (std::int64_t i = 0; i < args.starts + args.carries + args.stages; ++i) {
    ChainStage<Real>& stage = table[i];
    const bool in_body = i >= args.starts + args.carries, dense = stage.op == ChainOp::dense;
    stage.waits = false, stage.mover = -1;
    if (i < args.starts || in_body) first.push_back(&stage);
    if (i >= args.starts) others.push_back(&stage);
    require(!dense || in_body, "chain", "op of a stage that starts or carries", "dense",
            "no product");
    if (dense) {
      stage.landing = static_cast<std::int32_t>(args.landing);
      stage.number = static_cast<std::int32_t>(args.products++);
      require(args.products <= args.kProducts, "chain", "products", args.products,
              fmt::format("<= {}", args.kProducts));
      args.landing += (stage.D + 3) / 4 * 4;
      args.widest = std::max(args.widest, stage.D);
    }
    std::size_t o = 0;
    with_arguments<Real>(stage, [&](auto& a) {
      if constexpr (requires { a.W; }) {
        require(!a.activated, "chain", "activated of a product", "given", "a stage of its own");
        args.product[stage.number] = {static_cast<std::int32_t>(a.W.N),
                                      static_cast<std::int32_t>(a.W.K)};
      }
      for_each_rows(a, [&](auto& rows, std::int64_t width) {
        ChainOperand& operand = stage.operand[o++];
        using Data = std::remove_pointer_t<std::remove_reference_t<decltype(rows.data)>>;
        operand.input = operand.mover = -1, operand.column = 0;
        const bool moves = operand.step != 0 && rows.data != nullptr;
        const bool is_addend = dense && o == 2;  // read by who adds it, each its own
        if (!moves || !std::is_const_v<Data> || i < args.starts || is_addend) return;
        operand.input = static_cast<std::int32_t>(args.inputs++);
        operand.column = static_cast<std::int32_t>(args.input_columns);
        args.input_columns += (width + 3) / 4 * 4;
      });
    });
  }
  place_products(table, args);
  find_waits(first), find_waits(others);
  // The last ones that take sums from the slots to outside can run side by side.
  args.stores = 0;
  ChainStage<Real>* const end = table + args.starts + args.carries + args.stages;
  const auto is_store = [](const ChainStage<Real>& stage) {
    if (!stage.leaves || stage.op != ChainOp::multiply_add) return false;
    return std::all_of(stage.operand, stage.operand + 3, [](const ChainOperand& operand) {
      return operand.input < 0 && operand.step == 0;
    });
  };
  while (args.stores < args.stages && is_store(*(end - args.stores - 1))) ++args.stores;
  number_movers(table + args.starts, end - args.stores, args);
}

template <class Real>
void check(const ChainArgs<Real>& a) {
  const char* where = "chain";
  require_size(a.T, where, "T");
  require_size(a.rows, where, "rows");
  require_size(a.columns, where, "columns");
  require(a.columns % 4 == 0, where, "columns", a.columns, "a multiple of 4");
  require(a.time == 1 || a.time == -1, where, "time", a.time, "1 or -1");
  if (a.K < 1 || a.rows % a.K != 0) {
    require(false, where, "K", a.K, ">= 1, and a divisor of rows");
  }
  require_size(a.capacity, where, "capacity");
  require_size(a.starts, where, "starts");
  require_size(a.carries, where, "carries");
  require_size(a.stages, where, "stages");
  require_size(a.stores, where, "stores");
  require_size(a.landing, where, "landing");
  require_size(a.products, where, "products");
  require(a.products <= a.kProducts, where, "products", a.products,
          fmt::format("<= {}", a.kProducts));
  require_size(a.inputs, where, "inputs");
  require_size(a.movers, where, "movers");
  require_size(a.input_columns, where, "input_columns");
  require(a.cluster <= 16 && (a.cluster & (a.cluster - 1)) == 0, where, "cluster", a.cluster,
          "0, 1, 2, 4, 8 or 16");
  if (a.starts + a.carries + a.stages > 0) require_pointer(a.table, where, "table");
}

#define SEQVAE_STAGE_OF(Args)                                                       \
  template ChainStage<float> chain_stage(const Args<float>&, const Args<float>&,    \
                                         const ChainFrame<float>&);                 \
  template ChainStage<double> chain_stage(const Args<double>&, const Args<double>&, \
                                          const ChainFrame<double>&);
SEQVAE_STAGE_OF(DenseArgs)
SEQVAE_STAGE_OF(ActivationArgs)
SEQVAE_STAGE_OF(ActivationBackwardArgs)
SEQVAE_STAGE_OF(MultiplyAddArgs)
SEQVAE_STAGE_OF(GatedMixArgs)
SEQVAE_STAGE_OF(GatedMixBackwardArgs)
SEQVAE_STAGE_OF(SelectArgs)
SEQVAE_STAGE_OF(GruCellArgs)
SEQVAE_STAGE_OF(GruCellBackwardArgs)
SEQVAE_STAGE_OF(LstmCellArgs)
SEQVAE_STAGE_OF(LstmCellBackwardArgs)
SEQVAE_STAGE_OF(GaussianHeadArgs)
SEQVAE_STAGE_OF(GaussianHeadBackwardArgs)
SEQVAE_STAGE_OF(GaussianSampleArgs)
SEQVAE_STAGE_OF(GaussianSampleBackwardArgs)
#undef SEQVAE_STAGE_OF
template void arrange_chain(ChainStage<float>*, ChainArgs<float>&);
template void arrange_chain(ChainStage<double>*, ChainArgs<double>&);
template void check(const ChainArgs<float>&);
template void check(const ChainArgs<double>&);

}  // namespace seqvae
