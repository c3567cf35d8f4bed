// Linear-Gaussian models whose matrices are learned, freely or within bounds.
#pragma once
#include "seqvae/models/lgssm_form.hpp"

namespace seqvae {

/// `json`: a configuration with "states". \throws InputError naming key and rule.
std::unique_ptr<LgssmForm> make_learned_form(const io::JsonView& json, std::int64_t m,
                                             std::int64_t U);

}  // namespace seqvae
