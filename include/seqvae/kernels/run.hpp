/// \file  A contract on the device of a queue: whichever twin that is.
#pragma once
#include "seqvae/core/queue.hpp"
#include "seqvae/kernels/chain.hpp"

namespace seqvae {

/// cpu::NAME(args), or cuda::NAME(args, queue.stream()), for the NameArgs of every row-wise
/// contract, of products and their gradients, reductions, movements and AdamW; what the arguments
/// point to lies on the queue's device. Kernels are for float.
/// \throws InvalidArgument as check() does, and for double on a CUDA device
template <class Args>
void run(const Args& args, const Queue& queue);

/// Whether the queue's device runs the chain: on a CUDA device a few rows of it must fit a block's
/// shared memory.
template <class Real>
bool chain_fits(const ChainArgs<Real>& args, const Queue& queue);

}  // namespace seqvae
