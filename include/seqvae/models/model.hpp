/// \file  A deep model: its parameters and its step.
#pragma once
#include "seqvae/graph/scan.hpp"

namespace seqvae {

/// What the data says of a model.
struct DataShape {
  std::int64_t x_width = 1;         ///< columns of x; >= 1
  std::int64_t controls_width = 0;  ///< columns of u
  bool missing = false;             ///< some values are missing: networks read pairs (m x, 1 - m)
  Emission::Kind emission = Emission::Kind::gaussian;
};

/// Which posterior p(z_t | x) a model's own draws come from.
enum class Posterior { filter, smooth };
const char* to_string(Posterior posterior);

/// A model written as a step. Its parameters have PyTorch's names (docs/models).
class Model {
 public:
  explicit Model(const DataShape& shape) : shape_(shape) {}
  virtual ~Model() = default;

  /// One step, in the words of graph/step.hpp.
  virtual void step(Step& s) const = 0;
  /// filter: z_t is drawn given x_1..x_t; smooth: given all of x.
  virtual Posterior posterior() const = 0;

  const DataShape& shape() const { return shape_; }
  const ParameterTable& parameters() const { return parameters_; }
  /// A scan of this model's step, its data's widths filled in. `trace.missing` may be asked for of
  /// a model that was made for complete data: it then reads gaps as zeros (V = 0).
  Scan scan(ScanOptions options) const;

 protected:
  DataShape shape_;
  ParameterTable parameters_;
};

}  // namespace seqvae
