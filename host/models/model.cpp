#include "seqvae/models/model.hpp"

namespace seqvae {

const char* to_string(Posterior posterior) {
  return posterior == Posterior::filter ? "filter" : "smooth";
}

Scan Model::scan(ScanOptions options) const {
  options.trace.x_width = shape_.x_width;
  options.trace.controls_width = shape_.controls_width;
  options.trace.missing |= shape_.missing;
  return trace_scan([this](Step& s) { step(s); }, parameters_, options);
}

}  // namespace seqvae
