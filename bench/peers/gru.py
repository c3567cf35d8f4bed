"""torch.nn.GRU and LSTM beside this library, the two timed in turn on the same machine.

Usage: gru.py BENCH_RECURRENCE [--rounds N] [--kinds gru,lstm] [--threads 1,2]

Forward and backward, float32, one layer: the gradients of sum(h * g) for x, the start values and
all weights. Each round times one run of PyTorch and one of the library for each case; the
minimum over the rounds of each counts. glibc keeps freed memory for PyTorch (MALLOC_* are set), so
that it does not pay page faults that an arena spares us."""

import argparse
import json
import os
import subprocess
import sys
import time

KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_TOP_PAD_": str(2**28)}
if any(os.environ.get(name) != value for name, value in KEPT.items()):
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEPT)

import torch  # noqa: E402  (after the environment is set)

SHAPES = [(129, 20, 88, 600), (256, 64, 64, 512), (1024, 16, 32, 128), (64, 256, 32, 64)]


def training_step(kind, T, B, D, H):
    torch.manual_seed(0)
    layer = getattr(torch.nn, kind.upper())(D, H)
    x, g = torch.randn(T, B, D, requires_grad=True), torch.randn(T, B, H)
    states = [torch.randn(1, B, H, requires_grad=True) for _ in range(1 + (kind == "lstm"))]
    wanted = [x, *states, *layer.parameters()]
    start = tuple(states) if kind == "lstm" else states[0]
    return lambda: torch.autograd.grad(layer(x, start)[0], wanted, g)


def best(run, seconds):
    """Milliseconds of the fastest call within `seconds`, three at least."""
    times, begin = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)


def ours(bench, kind, shape, threads, seconds):
    """The fastest of three repetitions, each a mean over a third of `seconds`."""
    T, B, D, H = shape
    name = f"{kind}_forward_backward/T:{T}/B:{B}/D:{D}/H:{H}/threads:{threads}/real_time"
    out = subprocess.run([bench, f"--benchmark_filter=^{name}$", "--benchmark_format=json",
                          f"--benchmark_min_time={seconds / 3}", "--benchmark_repetitions=3"],
                         check=True, capture_output=True, text=True).stdout
    return min(line["real_time"] for line in json.loads(out)["benchmarks"]
               if line["run_type"] == "iteration")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--kinds", default="gru,lstm")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each, in each round")
    options = parser.parse_args()
    for threads in map(int, options.threads.split(",")):
        torch.set_num_threads(threads)
        for kind in options.kinds.split(","):
            for shape in SHAPES:
                step = training_step(kind, *shape)
                step()
                peer, own = [], []
                for _ in range(options.rounds):
                    peer.append(best(step, options.seconds))
                    own.append(ours(options.bench, kind, shape, threads, options.seconds))
                T, B, D, H = shape
                print(json.dumps({"kind": kind, "T": T, "B": B, "D": D, "H": H, "threads": threads,
                                  "torch": torch.__version__, "torch_ms": round(min(peer), 2),
                                  "seqvae_ms": round(min(own), 2),
                                  "speedup": round(min(peer) / min(own), 2)}), flush=True)


if __name__ == "__main__":
    main()
