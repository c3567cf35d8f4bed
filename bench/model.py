"""What a step of the recurrences costs by the machine code of their kernels: instructions, products on
the tensor cores, shared memory and sends, counted in the loop over time as the compiler made it, and
priced by the ceilings of an H100 (PRICES). No GPU is asked: `floor` is what the arithmetic and the
exchanges take, `model` what the counted work takes where nothing waits for anything but an exchange,
`measured` what bench/results/gpu/h100.json says of whole calls.

    bench/model.py [--nvcc NVCC] [--tools FOLDER] [--json FILE]
       --tools: what scripts/sass_tools made (build/sass_tools), where nvdisasm is not on PATH
Exit status 77 where there is no nvdisasm.

Sizes: S is T 129, B 20, H 600 (a DMM of z 100, transition 200), M is T 256, B 64, H 512, z 64. Of a
chain, whose stages a table says at run time, the products alone are counted, turn by turn of their
loop: the rest of it is a walk through a table, which waits more than it works, and of which the
instructions on the page say little (docs/kernels/chain.md has what was measured).
"""

import argparse
import collections
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Of one multiprocessor of an H100: cycles a second, of one product on a quarter of it, bytes of shared
# memory and multiply-adds a cycle; seconds of an exchange.
PRICES = {"hz": 1.755e9, "hmma_bf16": 6.1, "shared": 128.0, "fma": 128.0, "exchange": 0.25e-6}
SCHEDULERS = 4
BYTES = {"": 4, ".64": 8, ".128": 16}

# The loops of the DMM's posterior at S and of a VRNN at M by their products, (N, K);
# weights in float.
CHAINS = {
    "dmm_posterior S": {"T": 129, "B": 20, "target": 116e-6, "products": [(600, 100), (200, 600)]},
    "vrnn M": {"T": 256, "B": 64, "target": 560e-6,
               "products": [(512, 512), (128, 512), (512, 64), (1536, 512), (1536, 512)]},
}
GRUS = {"gru_forward S": {"T": 129, "B": 20, "H": 600, "kernel": (16, 40), "target": 150e-6},
        "gru_forward M": {"T": 256, "B": 64, "H": 512, "kernel": (8, 64), "target": 300e-6}}


class Instruction:
    def __init__(self, opcode, places, target):
        self.opcode, self.places, self.target = opcode, places, target


def listing(source, nvcc, environment):
    """The instructions of each kernel of a file, with the lines that they come from, innermost first."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = pathlib.Path(folder) / "k.cubin"
        subprocess.run([nvcc, f"-I{ROOT}", f"-I{ROOT / 'include'}", "-O3", "-DNDEBUG", "-std=c++20",
                        "-fmad=false", "-lineinfo", "-cubin", "-gencode",
                        "arch=compute_90a,code=sm_90a", "-o", cubin, ROOT / "kernels" / source],
                       check=True)
        text = subprocess.run(["nvdisasm", "-gi", "-c", cubin], check=True, capture_output=True,
                              text=True, env=environment).stdout
    kernels, labels, places, fresh = {}, {}, [], True
    code = None
    for line in text.splitlines():
        if head := re.match(r"\.text\.(\S+):", line):
            name = subprocess.run(["c++filt", head.group(1)], capture_output=True,
                                  text=True).stdout.strip()
            code = kernels.setdefault(name, [])
        elif label := re.match(r"(\.L_x_\d+):", line):
            if code is not None:
                labels[label.group(1)] = len(code)
        elif place := re.findall(r'(?:File|inlined at) "([^"]+)", line (\d+)', line):
            if fresh:
                places = []
            places += [(pathlib.Path(path).name, int(number)) for path, number in place]
            fresh = False
        elif found := re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@\S+\s+)?([A-Z][\w.]*)(.*?);", line):
            fresh = True
            branch = re.search(r"`\((\.L_x_\d+)\)", found.group(2))
            if code is not None:
                code.append(Instruction(found.group(1), places,
                                        branch and branch.group(1)))
    return kernels, labels


def counted(code):
    """What one warp issues."""
    counts = collections.Counter(instructions=len(code))
    for i in code:
        name = i.opcode.split(".")[0]
        if name == "HMMA":
            counts["hmma"] += 1
        elif name in ("LDS", "STS"):
            width = re.search(r"\.(64|128)\b", i.opcode)
            counts["shared_bytes"] += 32 * BYTES[f".{width.group(1)}" if width else ""]
        elif name == "LDSM":
            counts["shared_bytes"] += 128 * int(i.opcode.split(".")[-1])
        elif name == "STAS":
            counts["sends"] += 1
        elif name in ("LDG", "STG", "LDGSTS", "LD", "ST"):
            counts["global"] += 1
        elif name == "MUFU":
            counts["mufu"] += 1
        elif name == "BAR":
            counts["barriers"] += 1
    return counts


def time_loop(code, labels):
    """The innermost loop that has all products."""
    products = [n for n, i in enumerate(code) if i.opcode.startswith("HMMA")]
    spans = [(labels[i.target], n) for n, i in enumerate(code)
             if i.target in labels and labels[i.target] <= products[0] and n >= products[-1]]
    begin, end = min(spans, key=lambda span: span[1] - span[0])
    return code[begin:end + 1]


def priced(counts, warps, exchanges):
    """Cycles of one CTA's step: the slowest of its units, and the exchanges."""
    units = {"issue": counts["instructions"] * warps / SCHEDULERS,
             "hmma": counts["hmma"] * warps / SCHEDULERS * PRICES["hmma_bf16"],
             "shared": counts["shared_bytes"] * warps / PRICES["shared"]}
    return units, max(units.values()) + exchanges * PRICES["exchange"] * PRICES["hz"]


def gru_rows(nvcc, environment, measured):
    kernels, labels = listing("recurrence/gru_cluster.cu", nvcc, environment)
    for name, size in GRUS.items():
        wanted = f"gru_steps<{size['kernel'][0]}, {size['kernel'][1]}>"
        code = next(code for kernel, code in kernels.items() if wanted in kernel)
        counts = counted(time_loop(code, labels))
        units, cycles = priced(counts, 8, 1)
        clusters = math.ceil(size["B"] / 8)
        floor = 6 * size["H"] ** 2 * 8 / (620e12 / 132 * size["kernel"][0]) + PRICES["exchange"]
        yield row(name, f"{size['kernel'][0]} x {clusters}", size, counts, units, cycles, floor,
                  measured.get(("gru_forward", name.split()[1], "bfloat16")))


def product_loops(nvcc, environment):
    """The quick product's loops of run_chain, by the rows that they multiply: what a turn issues. A
    turn has 4 + R quads to read and 16 R multiply-adds."""
    source = (ROOT / "kernels/chain/product.cuh").read_text().splitlines()
    called = {number: int(found.group(1)) for number, line in enumerate(source, 1)
              if (found := re.search(r"multiply_staying<(\d)>\(share", line))}
    kernels, _ = listing("chain/chain.cu", nvcc, environment)
    code = next(code for kernel, code in kernels.items() if "run_chain" in kernel)
    by_rows = collections.defaultdict(list)
    for i in code:
        for name, number in i.places:
            if name == "product.cuh" and number in called:
                by_rows[called[number]].append(i)
    loops = {}
    for rows, body in by_rows.items():
        turns = sum(i.opcode.startswith("FFMA") for i in body) / (16 * rows)
        quads = sum(i.opcode.startswith("LDS.128") for i in body) / turns
        if quads != 4 + rows:
            raise SystemExit(f"model: a turn for {rows} rows reads {quads} quads, not {4 + rows}")
        loops[rows] = {key: value / turns for key, value in counted(body).items()}
    return loops


def chain_plan(chain):
    """CTAs of a cluster and rows: 16 CTAs, seven clusters side by side."""
    rows = math.ceil(chain["B"] / 7)
    waves = math.ceil(rows / 8)
    rows = math.ceil(rows / waves)
    return 16, next(r for r in (1, 2, 3, 4, 6, 8) if r >= rows), waves


def chain_rows(nvcc, environment):
    loops = product_loops(nvcc, environment)
    for name, chain in CHAINS.items():
        ctas, rows, waves = chain_plan(chain)
        counts = collections.Counter()
        for N, K in chain["products"]:
            count = math.ceil(math.ceil(N / 4) / ctas)
            parts = min(512 // count, math.ceil(K / 4))
            for key, value in loops[rows].items():
                counts[key] += value * math.ceil(math.ceil(K / 4) / parts) * parts * count / 512
        units, cycles = priced(counts, 16, len(chain["products"]))
        adds = sum(N * K for N, K in chain["products"]) * rows / ctas
        floor = adds / PRICES["fma"] / PRICES["hz"] + len(chain["products"]) * PRICES["exchange"]
        yield row(name, f"{ctas} x {math.ceil(chain['B'] / rows)}", chain, counts, units,
                  cycles * waves, floor * waves, None)


def row(name, clusters, size, counts, units, cycles, floor, measured):
    model = cycles / PRICES["hz"] * size["T"]
    return {"recurrence": name, "ctas_by_clusters": clusters, "T": size["T"],
            "a_warp_and_step": {key: round(value) for key, value in sorted(counts.items())},
            "cycles": {key: round(value) for key, value in units.items()},
            "floor_us": floor * size["T"] * 1e6, "model_us": model * 1e6,
            "target_us": size["target"] * 1e6, "model_over_target": model / size["target"],
            "measured_us": measured}


def measurements():
    path = ROOT / "bench/results/gpu/h100.json"
    if not path.exists():
        return {}
    report = json.loads(path.read_text())
    return {(c["name"], c["shape"], c["variant"]): c["us"]
            for c in report.get("recurrence", {}).get("cases", [])}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--tools", type=pathlib.Path, default=ROOT / "build/sass_tools")
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    folders = [str(path.parent) for path in
               arguments.tools.glob("lib/python*/site-packages/nvidia/*/bin/nvdisasm")]
    environment = dict(os.environ, PATH=os.pathsep.join([os.environ["PATH"], *folders]))
    if shutil.which("nvdisasm", path=environment["PATH"]) is None:
        print("model.py: no nvdisasm; scripts/sass_tools fetches it", file=sys.stderr)
        sys.exit(77)
    measured = measurements()
    rows = [*gru_rows(arguments.nvcc, environment, measured),
            *chain_rows(arguments.nvcc, environment)]
    print("| recurrence | CTAs x clusters | instructions a warp and step | issue | HMMA | shared "
          "| floor us | model us | target us | measured us |\n|---|---|---:|---:|---:|---:|---:|---:"
          "|---:|---:|")
    for r in rows:
        known = f"{r['measured_us']:.0f}" if r["measured_us"] else "not measured"
        print(f"| {r['recurrence']} | {r['ctas_by_clusters']} "
              f"| {r['a_warp_and_step']['instructions']} | {r['cycles']['issue']} "
              f"| {r['cycles']['hmma']} | {r['cycles']['shared']} | {r['floor_us']:.0f} "
              f"| {r['model_us']:.0f} | {r['target_us']:.0f} | {known} |")
    if arguments.json:
        arguments.json.write_text(json.dumps({"prices": PRICES, "rows": rows}, indent=1) + "\n")


main()
