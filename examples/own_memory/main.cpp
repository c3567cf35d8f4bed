// One contract over another framework's memory, without a copy either way: KL(q || N(0, I)) of the
// Gaussians that the framework holds, handed back to it.
//
// Build it against an installed seqvae with cmake (CMakeLists.txt beside it), or without:
//     g++ -std=c++20 -O2 main.cpp $(pkg-config --cflags --libs seqvae) -o own_memory
#include <dlpack/dlpack.h>
#include <seqvae/core/dlpack.hpp>
#include <seqvae/kernels/gaussian.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

using namespace seqvae;

/// What stands here for the other framework: a matrix of floats that it counts the users of.
struct Matrix {
  std::vector<float> elements;
  std::int64_t shape[2];
  int users = 0;
};

/// As a framework's __dlpack__: who takes the result calls its deleter when done.
DLManagedTensor* lend(Matrix& matrix) {
  auto* lent = new DLManagedTensor{};
  lent->dl_tensor.data = matrix.elements.data();
  lent->dl_tensor.device = {kDLCPU, 0};
  lent->dl_tensor.ndim = 2;
  lent->dl_tensor.dtype = {kDLFloat, 32, 1};
  lent->dl_tensor.shape = matrix.shape;
  lent->manager_ctx = &matrix;
  lent->deleter = [](DLManagedTensor* self) {
    --static_cast<Matrix*>(self->manager_ctx)->users;
    delete self;
  };
  ++matrix.users;
  return lent;
}

/// [rows] nats of Gaussians [rows][D].
Tensor divergence(const Tensor& mu, const Tensor& logvar) {
  const std::int64_t rows = mu.shape()[0], D = mu.shape()[1];
  Tensor kl(DType::float32, {rows});
  GaussianKlArgs<float> args;
  args.rows = rows, args.D = D;
  args.mu_q = {mu.values<float>().data(), D};
  args.logvar_q = {logvar.values<float>().data(), D};
  args.kl_sum = {kl.values<float>().data(), 1};
  cpu::gaussian_kl(args);
  return kl;
}

int main() {
  Matrix mu{{0, 0, 1, 1, 2, 0}, {3, 2}}, logvar{{0, 0, 0, 0, std::log(4.0f), 0}, {3, 2}};
  DLManagedTensor* kl = nullptr;
  {
    const Tensor mu_q = from_dlpack(lend(mu)), logvar_q = from_dlpack(lend(logvar));
    kl = to_dlpack(divergence(mu_q.slice(1, 3), logvar_q.slice(1, 3)));  // the last two rows
    std::printf("while in use: %d + %d users\n", mu.users, logvar.users);
  }
  std::printf("afterwards:   %d + %d users\n", mu.users, logvar.users);

  // The framework reads the library's memory, which stays until it says so.
  const auto* nats = static_cast<const float*>(kl->dl_tensor.data);
  const float by_hand[2] = {1, 0.5f * (4 + 4 - 1 - std::log(4.0f))};
  bool right = kl->dl_tensor.shape[0] == 2 && mu.users == 0 && logvar.users == 0;
  for (int i = 0; i < 2; ++i) {
    std::printf("divergence: %.6f nats, by hand %.6f\n", nats[i], by_hand[i]);
    right = right && std::abs(nats[i] - by_hand[i]) < 1e-5f;
  }
  kl->deleter(kl);
  return right ? 0 : 1;
}
