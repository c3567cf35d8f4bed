#include "host/train/lgssm_checkpoint.hpp"

#include "seqvae/core/error.hpp"
#include "seqvae/io/safetensors.hpp"

namespace seqvae {

void write_lgssm_checkpoint(const std::filesystem::path& file, const LgssmForm& form,
                            const LgssmCheckpoint& checkpoint) {
  const LgssmMatrices k = form.build(checkpoint.parameters);
  io::Safetensors contents;
  const auto put = [&](const char* name, const std::vector<double>& values,
                       std::vector<std::int64_t> shape) {
    if (!values.empty()) contents.tensors[name] = io::Array::of(std::move(shape), values);
  };
  put("parameters", checkpoint.parameters,
      {static_cast<std::int64_t>(checkpoint.parameters.size())});
  put("A", k.A, {k.n, k.n}), put("B", k.B, {k.n, k.U}), put("b", k.b, {k.n});
  put("C", k.C, {k.m, k.n}), put("D", k.D, {k.m, k.U}), put("d", k.d, {k.m});
  put("Q", k.Q, {k.n, k.n}), put("R", k.R, {k.m, k.m});
  put("m0", k.m0, {k.n}), put("P0", k.P0, {k.n, k.n});
  contents.metadata["state"] = checkpoint.state.dump();
  contents.metadata["names"] = io::Json(form.names()).dump();
  io::write_safetensors(file, contents);
}

LgssmCheckpoint read_lgssm_checkpoint(const std::filesystem::path& file, const LgssmForm& form) {
  const io::Safetensors contents = io::read_safetensors(file);
  LgssmCheckpoint checkpoint;
  const auto found = contents.tensors.find("parameters");
  if (found == contents.tensors.end())
    throw InputError(file.string(), "parameters", "is not there");
  checkpoint.parameters = found->second.to_double();
  if (checkpoint.parameters.size() != form.names().size()) {
    throw InputError(file.string(), "parameters",
                     fmt::format("has {} entries, the configuration gives {}",
                                 checkpoint.parameters.size(), form.names().size()));
  }
  const auto state = contents.metadata.find("state");
  if (state != contents.metadata.end()) {
    checkpoint.state = io::parse_json(state->second, file.string());
  }
  return checkpoint;
}

}  // namespace seqvae
