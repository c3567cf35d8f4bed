// One layer, forward and backward, driven by bench/compare.py in turn with bench/peers/layers.py,
// which writes the case file; its metadata says which layer.
//
// gru, lstm: gradients of x, the start values and all weights. The floor is arithmetic,
// 6 T B G H (D + H) FLOP with G = 3 and 4 gates.
//
// sampling: sample + KL to N(0, I) + Bernoulli log-likelihood, the draw included; the sample is the
// logit, so there is no matrix product. The floor is memory: forward reads mu, logvar, x and writes
// z, backward reads the four and writes two gradients: 40 bytes an element, 52 with the lines that
// a store fetches.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "bench/serve.hpp"
#include "seqvae/core/threads.hpp"
#include "seqvae/io/safetensors.hpp"
#include "seqvae/kernels/gaussian.hpp"
#include "seqvae/kernels/likelihood.hpp"
#include "tests/kernels/recurrence_problem.hpp"

namespace seqvae::bench {
namespace {

using Values = std::vector<float>;

double square(const Values& values) {
  return std::accumulate(values.begin(), values.end(), 0.0,
                         [](double sum, double v) { return sum + v * v; });
}

template <bool kLstm>
class Recurrence : public Work {
 public:
  Recurrence(const io::NamedArrays& given, int threads)
      : pool_(threads), problem_(shape_of(given)) {
    const auto read = [&](const char* name, Values& values) {
      const auto from = given.at(name).as<float>();
      require(from.size() == values.size(), "bench_layer", name, from.size(), "as sizes say");
      std::copy(from.begin(), from.end(), values.begin());
    };
    read("x", problem_.x), read("g", problem_.grad_h), read("h0", problem_.h0);
    if constexpr (kLstm) read("c0", problem_.c0);
    read("parameters.weight_ih_l0", problem_.weight_ih);
    read("parameters.weight_hh_l0", problem_.weight_hh);
    read("parameters.bias_ih_l0", problem_.bias_ih);
    read("parameters.bias_hh_l0", problem_.bias_hh);
    problem_.threads = &pool_;
    forward_ = problem_.args();
    reserve_.emplace(Problem::reserve_bytes(forward_));
    forward_.reserve = reserve_->get(), forward_.reserve_bytes = reserve_->bytes();
    workspace_.emplace(Problem::workspace_bytes(forward_));
    forward_.workspace = workspace_->get(), forward_.workspace_bytes = workspace_->bytes();
    backward_ = problem_.backward_args();
    backward_.grad_h_final = {};
    if constexpr (kLstm) backward_.grad_c_final = {};
    backward_.reserve = reserve_->get(), backward_.reserve_bytes = reserve_->bytes();
    backward_workspace_.emplace(Problem::workspace_bytes(backward_));
    backward_.workspace = backward_workspace_->get();
    backward_.workspace_bytes = backward_workspace_->bytes();
  }

  io::Json about() const override {
    const auto& [T, B, D, H, lengths, reverse, reset] = problem_.s;
    return {{"program", "seqvae"},
            {"variant", kLstm ? "lstm" : "gru"},
            {"T", T},
            {"B", B},
            {"D", D},
            {"H", H},
            {"dtype", "float32"},
            {"threads", pool_.count()},
            {"flop", 6 * T * B * problem_.G * (D + H)}};
  }

  io::Json loss() override {
    step();
    const double sum =
        std::inner_product(problem_.h.begin(), problem_.h.end(), problem_.grad_h.begin(), 0.0);
    double squares = 0;
    for (const Values* gradient :
         {&problem_.grad_x, &problem_.grad_h0, &problem_.grad_c0, &problem_.grad_weight_ih,
          &problem_.grad_weight_hh, &problem_.grad_bias_ih, &problem_.grad_bias_hh}) {
      squares += square(*gradient);
    }
    return {{"loss", sum}, {"gradient_norm", std::sqrt(squares)}};
  }

  io::Json run() override {
    return {{"seconds", seconds_of([this] { step(); })}};
  }

 private:
  using Problem = test::RecurrenceProblem<float, kLstm>;

  static test::RecurrenceShape shape_of(const io::NamedArrays& given) {
    const std::vector<std::int64_t>&x = given.at("x").shape, &g = given.at("g").shape;
    return {x.at(0), x.at(1), x.at(2), g.at(2)};
  }
  void step() {
    Problem::call(forward_);
    Problem::call(backward_);
  }

  ThreadPool pool_;
  Problem problem_;
  typename Problem::Args forward_;
  typename Problem::BackwardArgs backward_;
  std::optional<test::Scratch> reserve_, workspace_, backward_workspace_;
};

class Sampling : public Work {
 public:
  Sampling(io::NamedArrays given, int threads) : pool_(threads), given_(std::move(given)) {
    const std::vector<std::int64_t>& shape = given_.at("mu").shape;
    T_ = shape.at(0), B_ = shape.at(1), D_ = shape.at(2);
    const auto count = static_cast<std::size_t>(T_ * B_ * D_);
    const auto read = [&](const char* name) {
      const auto values = given_.at(name).as<float>();
      require(values.size() == count, "bench_layer", name, values.size(), "as many as mu");
      return Rows<const float>(values.data(), D_);
    };
    mu_ = read("mu"), logvar_ = read("logvar"), x_ = read("x"), eps_ = read("eps");
    z_.resize(count), grad_mu_.resize(count), grad_logvar_.resize(count);
    kl_.resize(count / static_cast<std::size_t>(D_)), log_likelihood_.resize(kl_.size());
    ids_.resize(static_cast<std::size_t>(B_));
    std::iota(ids_.begin(), ids_.end(), 0u);
    grad_z_.assign(static_cast<std::size_t>(pool_.count()),
                   Values(static_cast<std::size_t>(kChunk * D_)));
  }

  io::Json about() const override {
    return {{"program", "seqvae"},
            {"variant", "sampling"},
            {"T", T_},
            {"B", B_},
            {"D", D_},
            {"dtype", "float32"},
            {"threads", pool_.count()},
            {"bytes", 40 * T_ * B_ * D_}};
  }

  io::Json loss() override {
    given_noise_ = true;
    const double sum = step();
    given_noise_ = false;
    return {{"loss", sum}, {"gradient_norm", std::sqrt(square(grad_mu_) + square(grad_logvar_))}};
  }

  io::Json run() override {
    ++draw_;
    double sum = 0;
    const double seconds = seconds_of([&] { sum = step(); });
    if (!std::isfinite(sum)) return {{"error", "the loss is not finite"}};
    return {{"seconds", seconds}};
  }

 private:
  static constexpr std::int64_t kChunk = 125;  // rows of a call: its arrays stay in cache

  /// Rows of one step: `rows` from `row` on, of which the first is sequence `b` of step `t`.
  struct Chunk {
    std::int64_t row, t, b, rows;
  };
  template <class Call>
  void for_chunks(const Call& call) {
    const std::int64_t of_step = (B_ + kChunk - 1) / kChunk, chunks = T_ * of_step;
    const std::int64_t shares = pool_.count();
    pool_.run(pool_.count(), [&](int share) {
      for (std::int64_t c = share * chunks / shares; c < (share + 1) * chunks / shares; ++c) {
        const std::int64_t t = c / of_step, b = c % of_step * kChunk;
        call(Chunk{t * B_ + b, t, b, std::min(kChunk, B_ - b)}, share);
      }
    });
  }

  template <class Real>
  static Rows<Real> from(Rows<Real> matrix, const Chunk& c) {
    return {matrix[c.row], matrix.stride};
  }
  static Rows<float> from(Values& matrix, std::int64_t D, const Chunk& c) {
    return {matrix.data() + c.row * D, D};
  }
  NoiseArgs<float> noise(const Chunk& c) const {
    NoiseArgs<float> args;
    args.layout.T = 1, args.layout.B = c.rows, args.layout.t0 = c.t;
    args.key = {42, 1}, args.step = &draw_;
    args.sequence_id = ids_.data() + c.b;
    if (given_noise_) args.eps = from(eps_, c);
    return args;
  }

  void forward(const Chunk& c) {
    GaussianSampleKlArgs<float> sample;
    sample.D = D_, sample.noise = noise(c);
    sample.mu_q = from(mu_, c), sample.logvar_q = from(logvar_, c);
    sample.z = from(z_, D_, c), sample.kl_sum = from(kl_, 1, c);
    cpu::gaussian_sample_kl(sample);
    LikelihoodArgs<float> data;
    data.rows = c.rows, data.D = D_, data.x = from(x_, c), data.logits = from(z_, D_, c);
    data.log_likelihood = from(log_likelihood_, 1, c);
    cpu::likelihood(data);
  }
  void backward(const Chunk& c, Values& grad_z) {
    static constexpr float kOne = 1, kMinusOne = -1;
    LikelihoodBackwardArgs<float> data;
    data.rows = c.rows, data.D = D_, data.x = from(x_, c), data.logits = from(z_, D_, c);
    data.grad_log_likelihood = {&kMinusOne, 0}, data.grad_logits = {grad_z.data(), D_};
    cpu::likelihood_backward(data);
    GaussianSampleKlBackwardArgs<float> sample;
    sample.D = D_, sample.noise = noise(c);
    sample.mu_q = from(mu_, c), sample.logvar_q = from(logvar_, c);
    sample.grad_z = {grad_z.data(), D_}, sample.grad_kl_sum = {&kOne, 0};
    sample.grad_mu_q = from(grad_mu_, D_, c), sample.grad_logvar_q = from(grad_logvar_, D_, c);
    cpu::gaussian_sample_kl_backward(sample);
  }
  /// The loss: KL - log-likelihood, summed.
  double step() {
    for_chunks([this](const Chunk& c, int) { forward(c); });
    double loss = 0;
    for (std::size_t r = 0; r < kl_.size(); ++r) {
      loss += static_cast<double>(kl_[r]) - static_cast<double>(log_likelihood_[r]);
    }
    for_chunks([this](const Chunk& c, int share) {
      backward(c, grad_z_[static_cast<std::size_t>(share)]);
    });
    return loss;
  }

  ThreadPool pool_;
  io::NamedArrays given_;
  std::int64_t T_ = 0, B_ = 0, D_ = 0;
  Rows<const float> mu_, logvar_, x_, eps_;
  Values z_, kl_, log_likelihood_, grad_mu_, grad_logvar_;
  std::vector<Values> grad_z_;  // of a chunk; of each thread
  std::vector<std::uint32_t> ids_;
  std::uint64_t draw_ = 0;
  bool given_noise_ = false;
};

std::unique_ptr<Work> make(const std::string& file, int threads) {
  io::Safetensors contents = io::read_safetensors(file);
  const std::string layer = contents.metadata["layer"];
  if (layer == "gru") return std::make_unique<Recurrence<false>>(contents.tensors, threads);
  if (layer == "lstm") return std::make_unique<Recurrence<true>>(contents.tensors, threads);
  require(layer == "sampling", "bench_layer", "layer", layer, "gru, lstm or sampling");
  return std::make_unique<Sampling>(std::move(contents.tensors), threads);
}

}  // namespace
}  // namespace seqvae::bench

int main(int argc, char** argv) { return seqvae::bench::serve(argc, argv, seqvae::bench::make); }
