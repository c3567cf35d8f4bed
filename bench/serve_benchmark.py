#!/usr/bin/env python3
"""Lets bench/compare.py drive a Google Benchmark program: speaks the protocol of bench/peers.

    bench/serve_benchmark.py PROGRAM FILTER

`run` starts PROGRAM for the one benchmark that FILTER (a regular expression) names and gives its time
of an iteration; `loss` is null."""

import json
import subprocess
import sys

SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


def run(program, pattern):
    out = subprocess.run([program, f"--benchmark_filter={pattern}", "--benchmark_format=json",
                          "--benchmark_min_time=0.2"], capture_output=True, check=True, text=True)
    found = json.loads(out.stdout)["benchmarks"] if out.stdout else []
    if len(found) != 1:
        return {"error": f"{pattern} names {len(found)} benchmarks of {program}, not one"}
    return {"seconds": found[0]["real_time"] * SECONDS[found[0]["time_unit"]]}


def main():
    program, pattern = sys.argv[1:]
    print(json.dumps({"program": program.rsplit("/", 1)[-1], "variant": pattern}), flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == "quit":
            return
        print(json.dumps(run(program, pattern) if command == "run" else {"loss": None}), flush=True)


if __name__ == "__main__":
    main()
