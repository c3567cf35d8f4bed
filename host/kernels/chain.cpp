// How stages are made, and the checks of a chain.
#include "host/kernels/chain.hpp"

#include <algorithm>
#include <cstring>

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
  for_each_rows(
      after, [&](auto& rows) { steps[count++] = static_cast<std::int64_t>(address(rows.data)); });
  stage.operands = static_cast<std::int32_t>(count);
  stage.wide = stage.D % 4 == 0;
  std::size_t i = 0;
  bool stays = false;
  for_each_rows(args, [&](auto& rows) {
    ChainOperand& operand = stage.operand[i];
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

template <class Real>
void arrange_products(ChainStage<Real>* table, ChainArgs<Real>& args) {
  args.landing = args.widest = args.products = args.weights = 0;
  for (std::int64_t i = 0; i < args.starts + args.carries + args.stages; ++i) {
    ChainStage<Real>& stage = table[i];
    if (stage.op != ChainOp::dense) continue;
    stage.landing = static_cast<std::int32_t>(args.landing);
    stage.number = static_cast<std::int32_t>(args.products++);
    args.landing += (stage.D + 3) / 4 * 4;
    args.widest = std::max(args.widest, stage.D);
    with_arguments<Real>(stage, [&](const auto& a) {
      if constexpr (requires { a.W; }) args.weights += a.W.N * a.W.K;
    });
  }
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
  require_size(a.landing, where, "landing");
  require_size(a.products, where, "products");
  require(a.cluster <= 8 && (a.cluster & (a.cluster - 1)) == 0, where, "cluster", a.cluster,
          "0, 1, 2, 4 or 8");
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
template void arrange_products(ChainStage<float>*, ChainArgs<float>&);
template void arrange_products(ChainStage<double>*, ChainArgs<double>&);
template void check(const ChainArgs<float>&);
template void check(const ChainArgs<double>&);

}  // namespace seqvae
