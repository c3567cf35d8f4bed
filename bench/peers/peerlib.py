"""Shared by the peers: the ragged batch, the case file, the protocol, the measurement.

A peer runs by itself and prints one JSON line, or answers a driver (`--serve`, see README.md)."""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time

# glibc then keeps freed memory; otherwise each large temporary is faulted in anew at each use.
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "10000000000",
        "MALLOC_TOP_PAD_": "1000000000"}


def arguments(variants, doc, **more):
    """The command line; `more` are add_argument's settings of options of a peer's own, by name."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--variant", choices=variants, default=next(iter(variants)))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--malloc", choices=("kept", "default"), default="kept")
    parser.add_argument("--case", help="safetensors file: parameters, data, noise")
    parser.add_argument("--write-case", help="write such a file and stop")
    parser.add_argument("--serve", action="store_true", help="answer run, loss and quit on stdin")
    for name, settings in more.items():
        parser.add_argument(f"--{name}", **settings)
    chosen = parser.parse_args()
    if chosen.malloc == "kept" and os.environ.get("MALLOC_MMAP_MAX_") != "0":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEPT})
    return chosen


def versions(*packages):
    return {"python": platform.python_version()} | {
        package: importlib.metadata.version(package) for package in packages}


def measure(run, warmup=2, runs=9):
    """Seconds of `runs` calls after `warmup`."""
    seconds = []
    for i in range(warmup + runs):
        begin = time.perf_counter()
        run()
        if i >= warmup:
            seconds.append(time.perf_counter() - begin)
    return seconds


def answer(line):
    print(json.dumps(line), flush=True)


def drive(about, step, loss, serve):
    """Time the step once and print a line, or answer the driver line by line.

    `step()` does one whole step with fresh noise; `loss()` gives {"loss": ..., "gradient_norm": ...}
    at the case's parameters and noise, and is asked before the first step."""
    if not serve:
        seconds = measure(step)
        answer(about | {"min_ms": round(1e3 * min(seconds), 3), "runs": len(seconds),
                        "median_ms": round(1e3 * statistics.median(seconds), 3)})
        return
    answer(about)
    for line in sys.stdin:
        command = line.strip()
        if command == "run":
            begin = time.perf_counter()
            step()
            answer({"seconds": time.perf_counter() - begin})
        elif command == "loss":
            answer(loss())
        elif command == "quit":
            return
        else:
            answer({"error": f"unknown command {command!r}; known: run, loss, quit"})
