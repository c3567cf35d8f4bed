#!/usr/bin/env python3
"""Writes README.md of a folder of results: the tables of the reports of bench/compare.py in it.

    bench/results_table.py [FOLDER]     bench/results where none is named
    bench/results_table.py --keep-costs REPORT FILE
                                        of bench_kalman_cost's report: machine, and each turn's cost"""

import json
import pathlib
import re
import sys

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
TASKS = "filter", "smoother", "gradient"
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
are named with T, B, D, H; `kalman` (float64) with n, m, T, B, and `own` where each sequence has a model of
its own. A peer that rested after two rounds was over three times slower than the fastest; `on 1 of 2` is a peer
on one core beside this library on two, `on 2 of 1` the reverse. `kalman` counts every step's textbook FLOP; this
library does not do again what has settled or is shared, and so may pass the peak.

Machine: {machine}.

| family | threads | seqvae | peers, fastest first | ratio | rate | peak | commit |
|---|---:|---:|---|---:|---:|---:|---|
"""


def milliseconds(program):
    return "{} ({})".format(*(f"{program[key]:.{1 if program[key] >= 10 else 2}f}"
                              for key in ("min_ms", "median_ms")))


def name(report):
    """gru_129_20_88_600 -> gru 129,20,88,600"""
    family, *sizes = re.split(r"_(?=\d)", report["name"].removesuffix("_own"))
    return f"{family} {','.join(sizes)}{' own' if report['name'].endswith('_own') else ''}".strip()


def ours(report):
    return next((p for p in report["programs"] if p["role"] == "ours"), None)


def rate(report):
    """What the library's step costs at least, a second, and its share of the peak: two cells."""
    about, peak = (ours(report) or {}).get("about", {}), report.get("peak") or {}
    for cost, unit in (("flop", "GFLOP/s"), ("bytes", "GB/s")):
        if cost in about:
            reached = about[cost] / (1e-3 * ours(report)["min_ms"])
            kind = "float64_" if cost == "flop" and about.get("dtype") == "float64" else ""
            most = peak.get(f"{kind}{cost}_per_second")
            return f"{1e-9 * reached:.1f} {unit}", f"{100 * reached / most:.0f} %" if most else "-"
    return "-", "-"


def peer_cell(peer, threads):
    """dynamax on 1 of 2 12.3 (12.5)"""
    about = peer["about"]
    words = [about["program"]]
    if about.get("variant", about["program"]) != about["program"]:
        words.append(about["variant"])
    if about["threads"] != threads:
        words.append(f"on {about['threads']} of {threads}")
    return " ".join([*words, milliseconds(peer)])


def row(report):
    threads = (ours(report) or report["programs"][0])["about"]["threads"]
    peers = sorted((p for p in report["programs"] if p["role"] == "peer"), key=lambda p: p["min_ms"])
    named = "<br>".join(peer_cell(p, threads) for p in peers)
    cells = (name(report), threads,
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


KALMAN_COST = """
## What a step of the Kalman contracts costs
One sequence, one thread, float64, microseconds a step: the least of five turns (`scripts/bench kalman_cost`,
bench/kalman_cost_bench.cpp; every time is in kalman_cost.json). Smoother and gradient with the filter before
them. `varying`: A is an array of every step, so that no covariance settles. GFLOP/s by the arithmetic of such
a step. chunks: what 100 steps at a time cost beside one step after the other.

| task | n, m | T | constant | varying | GFLOP/s, varying | chunks, constant | chunks, varying |
|---|---|---:|---:|---:|---:|---:|---:|
"""


def keep_costs(report, file):
    """A line for each turn."""
    found = json.loads(report.read_text())
    turns = [{key: run[key] for key in ("name", "us_a_step", "flop_a_second")}
             for run in found["benchmarks"] if run["run_type"] == "iteration"]
    context = {key: found["context"][key] for key in ("date", "num_cpus", "mhz_per_cpu", "caches")}
    lines = ",\n".join(json.dumps(turn) for turn in sorted(turns, key=lambda turn: turn["name"]))
    file.write_text(f'{{"context": {json.dumps(context)},\n"turns": [\n{lines}]}}\n')


def kalman_cost(file):
    """A row of each task, size and length."""
    if not file.exists():
        return ""
    found = {}
    for turn in json.loads(file.read_text())["turns"]:
        task = turn["name"].split("/")[1]
        n, m, T, varying, chunk = map(int, re.findall(r":(\d+)", turn["name"])[:5])
        case = (task, n, m, T), varying, chunk < T
        if case not in found or turn["us_a_step"] < found[case]["us_a_step"]:
            found[case] = turn

    def times(shape, varying):
        in_turn, chunks = (found.get((shape, varying, c)) for c in (False, True))
        return f"{chunks['us_a_step'] / in_turn['us_a_step']:.2f}" if chunks else "-"
    rows = []
    for shape in sorted(dict.fromkeys(case[0] for case in found),
                        key=lambda shape: (TASKS.index(shape[0]), *shape[1:])):
        task, n, m, T = shape
        constant, varying = (found[shape, v, False] for v in (0, 1))
        rows.append(f"| {task} | {n}, {m} | {T} | {constant['us_a_step']:.3f} | "
                    f"{varying['us_a_step']:.3f} | {1e-9 * varying['flop_a_second']:.2f} | "
                    f"{times(shape, 0)} | {times(shape, 1)} |\n")
    return KALMAN_COST + "".join(rows)


def place(report):
    """Families in their order, then sizes, then threads."""
    family, *_ = name(report).split()
    known = FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)
    sizes = [int(size) for size in re.findall(r"_(\d+)", report["name"])]
    return known, report["name"].endswith("_own"), family, sizes, report["programs"][0]["about"]["threads"]


def main():
    if sys.argv[1:2] == ["--keep-costs"]:
        return keep_costs(*map(pathlib.Path, sys.argv[2:]))
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    reports = sorted((json.loads(path.read_text()) for path in folder.glob("*_threads*.json")),
                     key=place)
    if not reports:
        return
    machines = sorted({machine(report) for report in reports})
    rounds = sorted({str(report["rounds"]) for report in reports})
    (folder / "README.md").write_text(
        HEAD.format(machine="; ".join(machines), rounds=" or ".join(rounds))
        + "".join(map(row, reports)) + new_shape(reports) + kalman_cost(folder / "kalman_cost.json")
        + (RESULTS / "jsb.md").read_text())


if __name__ == "__main__":
    main()
