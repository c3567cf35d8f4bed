// The contracts that have a twin on each device, once: X(name, its arguments).
#pragma once
#include "seqvae/kernels/activation.hpp"
#include "seqvae/kernels/arithmetic.hpp"
#include "seqvae/kernels/categorical.hpp"
#include "seqvae/kernels/chain.hpp"
#include "seqvae/kernels/dense.hpp"
#include "seqvae/kernels/dropout.hpp"
#include "seqvae/kernels/gaussian.hpp"
#include "seqvae/kernels/kalman.hpp"
#include "seqvae/kernels/likelihood.hpp"
#include "seqvae/kernels/movement.hpp"
#include "seqvae/kernels/normalization.hpp"
#include "seqvae/kernels/optimizer.hpp"
#include "seqvae/kernels/recurrent_cell.hpp"
#include "seqvae/kernels/reduce.hpp"

// clang-format off
#define SEQVAE_CONTRACTS(X)                                          \
  X(activation, ActivationArgs)                                      \
  X(activation_backward, ActivationBackwardArgs)                     \
  X(adamw, AdamWArgs)                                                \
  X(categorical_kl, CategoricalKlArgs)                               \
  X(categorical_kl_backward, CategoricalKlBackwardArgs)              \
  X(chain, ChainArgs)                                                \
  X(clamp, ClampArgs)                                                \
  X(clamp_backward, ClampBackwardArgs)                               \
  X(dense, DenseArgs)                                                \
  X(dense_weight_gradient, DenseWeightGradientArgs)                  \
  X(dropout, DropoutArgs)                                            \
  X(gated_mix, GatedMixArgs)                                         \
  X(gated_mix_backward, GatedMixBackwardArgs)                        \
  X(gaussian_head, GaussianHeadArgs)                                 \
  X(gaussian_head_backward, GaussianHeadBackwardArgs)                \
  X(gaussian_kl, GaussianKlArgs)                                     \
  X(gaussian_kl_backward, GaussianKlBackwardArgs)                    \
  X(gaussian_log_density, GaussianLogDensityArgs)                    \
  X(gaussian_log_density_backward, GaussianLogDensityBackwardArgs)   \
  X(gaussian_sample, GaussianSampleArgs)                             \
  X(gaussian_sample_backward, GaussianSampleBackwardArgs)            \
  X(gru_cell, GruCellArgs)                                           \
  X(gru_cell_backward, GruCellBackwardArgs)                          \
  X(likelihood, LikelihoodArgs)                                      \
  X(likelihood_backward, LikelihoodBackwardArgs)                     \
  X(likelihood_mean, LikelihoodMeanArgs)                             \
  X(likelihood_sample, LikelihoodSampleArgs)                         \
  X(log_mean_exp, LogMeanExpArgs)                                    \
  X(log_mean_exp_backward, LogMeanExpBackwardArgs)                   \
  X(lstm_cell, LstmCellArgs)                                         \
  X(lstm_cell_backward, LstmCellBackwardArgs)                        \
  X(matrix_product, MatrixProductArgs)                               \
  X(move_rows, MoveRowsArgs)                                         \
  X(multiply_add, MultiplyAddArgs)                                   \
  X(normalize, NormalizeArgs)                                        \
  X(normalize_backward, NormalizeBackwardArgs)                       \
  X(one_hot_sample, OneHotSampleArgs)                                \
  X(products, ProductsArgs)                                          \
  X(select, SelectArgs)                                              \
  X(softmax, SoftmaxArgs)                                            \
  X(softmax_backward, SoftmaxBackwardArgs)                           \
  X(sum_over_particles, SumOverParticlesArgs)                        \
  X(sum_over_rows, SumOverRowsArgs)                                  \
  X(sum_over_time, SumOverTimeArgs)                                  \
  X(weight_gradients, WeightGradientsArgs)
// Those whose kernels are for double as well.
#define SEQVAE_KALMAN_CONTRACTS(X)                                   \
  X(kalman_backward, KalmanBackwardArgs)                             \
  X(kalman_filter, KalmanFilterArgs)                                 \
  X(kalman_forecast, KalmanForecastArgs)                             \
  X(kalman_sample, KalmanSampleArgs)                                 \
  X(kalman_sample_backward, KalmanSampleBackwardArgs)                \
  X(kalman_simulate, KalmanSimulateArgs)                             \
  X(kalman_smoother, KalmanSmootherArgs)
// clang-format on
