// Structural time series models: level, trend, season, cycle and autoregression of one series.
#pragma once
#include "seqvae/models/lgssm_form.hpp"

namespace seqvae {

/// `json`: what stands under "structural". \throws InputError naming key and rule.
std::unique_ptr<LgssmForm> make_structural_form(const io::JsonView& json, std::int64_t m,
                                                std::int64_t U);

}  // namespace seqvae
