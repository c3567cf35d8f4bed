#include "host/train/checkpoint.hpp"

#include <algorithm>
#include <cmath>

#include "seqvae/core/error.hpp"
#include "seqvae/io/safetensors.hpp"

namespace seqvae {
namespace {

std::vector<std::int64_t> without_ones(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> rest;
  for (std::int64_t size : shape) {
    if (size != 1) rest.push_back(size);
  }
  return rest;
}

}  // namespace

template <class Real>
void write_checkpoint(const std::filesystem::path& file, const ParameterTable& table,
                      const Checkpoint<Real>& checkpoint) {
  io::Safetensors contents;
  for (const Parameter& p : table.all()) {
    const std::span<const Real> values(checkpoint.parameters.data() + p.offset,
                                       static_cast<std::size_t>(p.count()));
    contents.tensors[p.name] = io::Array::of<Real>(
        p.is_vector ? std::vector<std::int64_t>{p.cols} : std::vector<std::int64_t>{p.rows, p.cols},
        values);
  }
  for (const auto& [name, values] :
       {std::pair{"optimizer.m", &checkpoint.m}, {"optimizer.v", &checkpoint.v}}) {
    if (!values->empty()) {
      contents.tensors[name] =
          io::Array::of<Real>({static_cast<std::int64_t>(values->size())}, *values);
    }
  }
  contents.metadata["state"] = checkpoint.state.dump();
  io::write_safetensors(file, contents);
}

template <class Real>
Checkpoint<Real> read_checkpoint(const std::filesystem::path& file, const ParameterTable& table) {
  const io::Safetensors contents = io::read_safetensors(file);
  Checkpoint<Real> checkpoint;
  checkpoint.parameters.assign(static_cast<std::size_t>(table.size()), Real{0});
  for (const Parameter& p : table.all()) {
    const auto found = contents.tensors.find(p.name);
    if (found == contents.tensors.end())
      throw InputError(file.string(), p.name, "the model's tensor is not there");
    const std::vector<std::int64_t> wanted = without_ones({p.rows, p.cols});
    if (without_ones(found->second.shape) != wanted) {
      throw InputError(file.string(), p.name,
                       fmt::format("has shape {}, must be {}", text_of(found->second.shape),
                                   text_of(std::vector<std::int64_t>{p.rows, p.cols})));
    }
    const std::vector<double> values = found->second.to_double();
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i]))
        throw InputError(file.string(), p.name, "has a value that is not finite");
      checkpoint.parameters[static_cast<std::size_t>(p.offset) + i] = static_cast<Real>(values[i]);
    }
  }
  for (const auto& [name, values] :
       {std::pair{"optimizer.m", &checkpoint.m}, {"optimizer.v", &checkpoint.v}}) {
    const auto found = contents.tensors.find(name);
    if (found == contents.tensors.end()) continue;
    const std::vector<double> moments = found->second.to_double();
    if (static_cast<std::int64_t>(moments.size()) != table.size()) {
      throw InputError(file.string(), name,
                       fmt::format("has {} elements, must have {}", moments.size(), table.size()));
    }
    if (!std::all_of(moments.begin(), moments.end(), [](double x) { return std::isfinite(x); }))
      throw InputError(file.string(), name, "has a value that is not finite");
    values->assign(moments.begin(), moments.end());
  }
  const auto state = contents.metadata.find("state");
  if (state != contents.metadata.end())
    checkpoint.state = io::parse_json(state->second, file.string());
  return checkpoint;
}

template void write_checkpoint(const std::filesystem::path&, const ParameterTable&,
                               const Checkpoint<float>&);
template void write_checkpoint(const std::filesystem::path&, const ParameterTable&,
                               const Checkpoint<double>&);
template Checkpoint<float> read_checkpoint(const std::filesystem::path&, const ParameterTable&);
template Checkpoint<double> read_checkpoint(const std::filesystem::path&, const ParameterTable&);

}  // namespace seqvae
