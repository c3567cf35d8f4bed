// The form with given matrices, and the choice by a configuration's keys.
#include "seqvae/models/lgssm_form.hpp"

#include "host/models/lgssm_learned.hpp"
#include "host/models/lgssm_structural.hpp"
#include "seqvae/core/error.hpp"

namespace seqvae {
namespace {

class GivenForm : public LgssmForm {
 public:
  explicit GivenForm(LgssmMatrices matrices) : matrices_(std::move(matrices)) {}
  std::vector<std::string> names() const override { return {}; }
  std::vector<double> start(const data::SequenceSet&) const override { return {}; }
  LgssmMatrices build(std::span<const double>) const override { return matrices_; }
  std::vector<double> reverse(std::span<const double>, const LgssmMatrices&) const override {
    return {};
  }

 private:
  LgssmMatrices matrices_;
};

}  // namespace

std::vector<double> LgssmForm::maximise(const LgssmMoments&) const {
  throw InvalidArgument("em: this form has no closed maximum; it is fitted by its gradient");
}

std::unique_ptr<LgssmForm> make_lgssm_form(const io::JsonView& configuration, std::int64_t m,
                                           std::int64_t U) {
  if (const auto structural = configuration.get("structural")) {
    configuration.allow_only({"structural"});
    return make_structural_form(*structural, m, U);
  }
  if (configuration.get("states")) return make_learned_form(configuration, m, U);
  if (!configuration.get("A")) {
    configuration.fail("must have \"A\" (matrices given), \"structural\" or \"states\"");
  }
  LgssmMatrices matrices = LgssmMatrices::from_json(configuration);
  if (matrices.m != m) {
    configuration.at("C").fail(fmt::format("has {} rows, the data has {} columns", matrices.m, m));
  }
  if (matrices.U != U) {
    configuration.fail(fmt::format("has B or D for {} controls, the data has {}", matrices.U, U));
  }
  return std::make_unique<GivenForm>(std::move(matrices));
}

}  // namespace seqvae
