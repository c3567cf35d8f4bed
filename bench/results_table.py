#!/usr/bin/env python3
"""Writes bench/results/README.md: the tables of what the benchmarks have stored beside it."""

import json
import pathlib

FOLDER = pathlib.Path(__file__).resolve().parent / "results"
HEAD = """# Measured against the peers
Milliseconds, minimum with the median in brackets, of {rounds} steps in alternation with the peers
(bench/compare.py; all agree on the loss first). ratio = fastest peer / this library, by minima: above
1 the library is faster. The peers are described in bench/peers. Made by `scripts/bench`; settings,
versions and every time are in the JSON files.

Machine: {machine}.

| family | threads | seqvae | peers, fastest first | ratio | commit |
|---|---:|---:|---|---:|---|
"""


def milliseconds(program):
    return f"{program['min_ms']:.1f} ({program['median_ms']:.1f})"


def row(report):
    programs = sorted(report["programs"], key=lambda p: p["min_ms"])
    peers = [p for p in programs if p["role"] == "peer"]
    ours = [milliseconds(p) for p in programs if p["role"] == "ours"] or ["-"]
    named = "<br>".join(f"{p['about']['program']} {p['about'].get('variant', '')} {milliseconds(p)}"
                        for p in peers)
    ratio = "-" if report["ratio"] is None else f"{report['ratio']:.2f}"
    return (f"| {report['name']} | {peers[0]['about']['threads']} | {ours[0]} | {named} | {ratio} | "
            f"{report['commit']} |\n")


def machine(report):
    found = report["machine"]
    return (f"{found.get('model name', 'unknown')} (family {found.get('cpu family', '?')}, model "
            f"{found.get('model', '?')}{', AVX-512' if found['avx512'] else ''}), {found['cores']} "
            f"cores, {found['memory_GiB']:.0f} GiB")


NEW_SHAPE = """
## A new batch shape
Milliseconds that the first step at a shape costs more than the same step repeated (least of three), of
batches of 18 to 22 sequences of 20 to 129 steps: least, median and most of several shapes. Unseen: the
first step of an executor. Seen: T, B and R are new, but every thread's rows fall where some did before.

| family | threads | unseen | seen |
|---|---:|---:|---:|
"""


def new_shape(reports):
    """A row of each report that has them: those of before do not."""
    def numbers(costs):
        return f"{costs['min_ms']:.1f} / {costs['median_ms']:.1f} / {costs['max_ms']:.1f}"
    rows = [f"| {report['name']} | {report['programs'][0]['about']['threads']} | "
            f"{numbers(report['new_shape']['unseen'])} | {numbers(report['new_shape']['seen'])} |\n"
            for report in reports if report.get("new_shape")]
    return NEW_SHAPE + "".join(rows) if rows else ""


KERNELS = """
## Kernels
Forward and backward, milliseconds, minima of nine alternating runs (bench/peers/gru.py and sampling.py;
torch 2.15, glibc's memory kept; GRU and LSTM with T steps, B sequences, D inputs, H units). A peer with a
backward pass written by hand (bench/peers/layers.py, gru_deferred) took 267.7 ms on one thread and 173.1 on
two for the first case, timed apart from this table; nn.GRU stands below. LSTM on two threads: one case was
timed.

| case | threads | seqvae | torch | ratio |
|---|---:|---:|---:|---:|
"""


def kernels():
    text = KERNELS
    for name in ("recurrence", "sampling"):
        for line in (FOLDER / f"{name}.jsonl").read_text().splitlines():
            r = json.loads(line)
            case = r.get("stage") or f"{r['kind']} {r['T']},{r['B']},{r['D']},{r['H']}"
            text += (f"| {case} | {r['threads']} | {r['seqvae_ms']} | {r['torch_ms']} | "
                     f"{r['speedup']} |\n")
    return text


def main():
    reports = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*_threads*.json"))]
    if not reports:
        return
    machines = sorted({machine(report) for report in reports})
    rounds = sorted({str(report["rounds"]) for report in reports})
    (FOLDER / "README.md").write_text(
        HEAD.format(machine="; ".join(machines), rounds=" or ".join(rounds))
        + "".join(map(row, reports)) + new_shape(reports) + kernels() + (FOLDER / "jsb.md").read_text())


if __name__ == "__main__":
    main()
