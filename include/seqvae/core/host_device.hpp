/// \file  Marks a function that runs on the host and, compiled by nvcc, on the device.
#pragma once

#if defined(__CUDACC__)
#define SEQVAE_HOST_DEVICE __host__ __device__
#else
#define SEQVAE_HOST_DEVICE
#endif
