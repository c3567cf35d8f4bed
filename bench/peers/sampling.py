"""PyTorch: mu, logvar -> sample + KL to N(0, 1) + Bernoulli log-likelihood, forward and backward.

1e7 elements; the sample is the Bernoulli logit, so the stage has no matrix product. Compiled but
for the draw, which PyTorch does faster outside; memory is kept from call to call (the allocator
would otherwise return it and fault it in again). Given the program bench_sampling, the two take turns:

    python bench/peers/sampling.py [build/release/bench/bench_sampling]

Prints the smallest of nine times in ms, for one thread and for two."""

import ctypes
import json
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

N = 10_000_000
ROUNDS = 9
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def stage(mu, logvar, x, eps):
    z = mu + torch.exp(0.5 * logvar) * eps
    kl = 0.5 * (mu * mu + logvar.exp() - 1.0 - logvar).sum()
    return kl + F.binary_cross_entropy_with_logits(z, x, reduction="sum")


def ours(program, threads):
    """One iteration, the process's first being its warm-up."""
    out = subprocess.run(
        [program, f"--benchmark_filter=^sampling/threads:{threads}/", "--benchmark_format=json",
         "--benchmark_min_time=0.2"], capture_output=True, check=True, text=True).stdout
    return json.loads(out)["benchmarks"][0]["real_time"]


def main():
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    torch.manual_seed(0)
    mu = torch.randn(N, requires_grad=True)
    logvar = torch.randn(N, requires_grad=True)
    x = (torch.rand(N) < 0.3).float()
    eps = torch.empty(N)
    compiled = torch.compile(stage)

    def run():
        begin = time.perf_counter()
        torch.autograd.grad(compiled(mu, logvar, x, eps.normal_()), [mu, logvar])
        return 1e3 * (time.perf_counter() - begin)

    for threads in (1, 2):
        torch.set_num_threads(threads)
        theirs, mine = [], []
        run()
        for _ in range(ROUNDS):
            run()  # the first after the other's turn finds cold caches
            theirs.append(min(run(), run(), run()))
            if len(sys.argv) > 1:
                mine.append(ours(sys.argv[1], threads))
        line = {"threads": threads, "torch_ms": round(min(theirs), 2)}
        if mine:
            line |= {"seqvae_ms": round(min(mine), 2), "ratio": round(min(theirs) / min(mine), 2)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
