#!/usr/bin/env python3
"""Writes README.md of a folder of results: the tables of the reports of bench/compare.py in it.

    bench/results_table.py [FOLDER]     bench/results where none is named"""

import json
import pathlib
import re
import sys

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
FAMILIES = ("dmm_step", "vrnn_step", "gru", "lstm", "sampling", "kalman_filter", "kalman_smoother",
            "kalman_gradient")
HEAD = """# Measured against the peers
Milliseconds, minimum with the median in brackets, of {rounds} steps in alternation with the peers
(bench/compare.py; all agree on the loss first). ratio = fastest peer / this library, by minima: above
1 the library is faster. The peers are described in bench/peers. Made by `scripts/bench`; settings,
versions and every time are in the JSON files.

rate: what a step costs at least (its products, or for `sampling` the bytes that must move) over the
least time; peak: its share of what bench_peak reached on as many threads just before (multiply-adds
in registers; a triad, its fetched lines not counted, as they are not in the rate). `gru` and `lstm`
are named with T, B, D, H; `kalman` (float64, whose peak is not measured) with n, m, T, B.

Machine: {machine}.

| family | threads | seqvae | peers, fastest first | ratio | rate | peak | commit |
|---|---:|---:|---|---:|---:|---:|---|
"""


def milliseconds(program):
    return f"{program['min_ms']:.1f} ({program['median_ms']:.1f})"


def name(report):
    """gru_129_20_88_600 -> gru 129,20,88,600"""
    family, *sizes = re.split(r"_(?=\d)", report["name"])
    return f"{family} {','.join(sizes)}".strip()


def ours(report):
    return next((p for p in report["programs"] if p["role"] == "ours"), None)


def rate(report):
    """What the library's step costs at least, a second, and its share of the peak: two cells."""
    about, peak = (ours(report) or {}).get("about", {}), report.get("peak") or {}
    for cost, unit in (("flop", "GFLOP/s"), ("bytes", "GB/s")):
        if cost in about:
            reached = about[cost] / (1e-3 * ours(report)["min_ms"])
            most = peak.get(f"{cost}_per_second")
            return f"{1e-9 * reached:.1f} {unit}", f"{100 * reached / most:.0f} %" if most else "-"
    return "-", "-"


def row(report):
    peers = sorted((p for p in report["programs"] if p["role"] == "peer"), key=lambda p: p["min_ms"])
    named = "<br>".join(f"{p['about']['program']} {p['about'].get('variant', '')} {milliseconds(p)}"
                        for p in peers)
    cells = (name(report), peers[0]["about"]["threads"],
             milliseconds(ours(report)) if ours(report) else "-", named,
             "-" if report["ratio"] is None else f"{report['ratio']:.2f}", *rate(report),
             report["commit"])
    return f"| {' | '.join(map(str, cells))} |\n"


def machine(report):
    found = report["machine"]
    return (f"{found.get('model name', 'unknown')} (family {found.get('cpu family', '?')}, model "
            f"{found.get('model', '?')}{', AVX-512' if found['avx512'] else ''}), {found['cores']} "
            f"cores, {found['memory_GiB']:.0f} GiB")


NEW_SHAPE = """
## A new batch shape
Milliseconds that the first step at a shape costs more than the same step repeated, of batches of 18 to
22 sequences of 20 to 129 steps: least, median and most of several shapes, each met by six new executors
of which the least counts. Unseen: the first step of an executor. Seen: T, B and R are new, but every
thread's rows fall where some did before.

| family | threads | unseen | seen |
|---|---:|---:|---:|
"""


def new_shape(reports):
    """A row of each report that has them: a layer has none."""
    def numbers(costs):
        return f"{costs['min_ms']:.1f} / {costs['median_ms']:.1f} / {costs['max_ms']:.1f}"
    rows = [f"| {report['name']} | {report['programs'][0]['about']['threads']} | "
            f"{numbers(report['new_shape']['unseen'])} | {numbers(report['new_shape']['seen'])} |\n"
            for report in reports if report.get("new_shape")]
    return NEW_SHAPE + "".join(rows) if rows else ""


def place(report):
    """Families in their order, then sizes, then threads."""
    family, *_ = name(report).split()
    known = FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)
    sizes = [int(size) for size in re.findall(r"_(\d+)", report["name"])]
    return known, family, sizes, report["programs"][0]["about"]["threads"]


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    reports = sorted((json.loads(path.read_text()) for path in folder.glob("*_threads*.json")),
                     key=place)
    if not reports:
        return
    machines = sorted({machine(report) for report in reports})
    rounds = sorted({str(report["rounds"]) for report in reports})
    (folder / "README.md").write_text(
        HEAD.format(machine="; ".join(machines), rounds=" or ".join(rounds))
        + "".join(map(row, reports)) + new_shape(reports) + (RESULTS / "jsb.md").read_text())


if __name__ == "__main__":
    main()
