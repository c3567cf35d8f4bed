/// \file  DLPack: another framework's memory used in place, and ours by it.
///
/// The unversioned DLManagedTensor of <dlpack/dlpack.h>, which Python hands round as a capsule
/// named "dltensor"; its layout is the same in DLPack 0.6 and 1.x. That header is needed only by
/// who fills one in or reads one.
///
/// No stream is waited for: memory of a CUDA device is read and written in the order of the stream
/// that the caller gives to a contract, and what others enqueued on theirs is the caller's to
/// order.
#pragma once
#include "seqvae/core/tensor.hpp"

struct DLManagedTensor;

namespace seqvae {

/// Takes `tensor` over: its deleter is called once, by whichever thread lets go of the last Tensor
/// that looks at the memory. Row-major without gaps (strides null or said so), of the CPU or a CUDA
/// device, whether or not this build has CUDA; element types are those of DType.
/// \throws InvalidArgument naming field, value and rule; `tensor` is then still the caller's
Tensor from_dlpack(DLManagedTensor* tensor);

/// The elements, not a copy: the memory stays until the taker calls the result's deleter, whatever
/// becomes of `tensor`. The result must go to a taker, or its deleter be called.
DLManagedTensor* to_dlpack(const Tensor& tensor);

}  // namespace seqvae
