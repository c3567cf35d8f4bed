/// \file  A contract on the device of a queue: whichever twin that is.
#pragma once
#include "seqvae/core/queue.hpp"
#include "seqvae/kernels/chain.hpp"

namespace seqvae {

/// cpu::NAME(args), or cuda::NAME(args, queue.stream()), for the NameArgs of every row-wise
/// contract, of products and their gradients, reductions, movements, AdamW and the Kalman
/// contracts; what the arguments point to lies on the queue's device. Kernels are for float,
/// Kalman's for double too. \throws InvalidArgument as check() does, and for double on a CUDA
/// device elsewhere
template <class Args>
void run(const Args& args, const Queue& queue);

/// The workspace that a Kalman contract's twin there asks for.
template <class Args>
std::size_t kalman_workspace_bytes(const Args& args, const Queue& queue);

/// Whether the queue's device runs the chain: on a CUDA device a few rows of it must fit a block's
/// shared memory.
template <class Real>
bool chain_fits(const ChainArgs<Real>& args, const Queue& queue);

}  // namespace seqvae
