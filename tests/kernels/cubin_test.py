"""What can be said of the CUDA kernels of a room without a GPU: they compile for each architecture
without a warning, spill nothing, use no stack and no more registers than their budget; and their
machine code touches no local memory and adds no floats atomically. The latter needs cuobjdump and
nvdisasm, on PATH or fetched by scripts/sass_tools; where they are missing the test says what it did
not check.

Usage: cubin_test.py --room kalman --nvcc NVCC --source ROOT --tools FOLDER -- OPTION...
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ARCHITECTURES = ("sm_80", "sm_90a")

# Registers a thread, at most. Of 65536 a multiprocessor, with 256 threads a block, 32 leave room for
# all the threads there can be, 40 for three quarters, 64 for a half. The row-wise kernels are bound by
# memory; where a thread has five 16-byte loads on the way, half of the threads are enough. So has one
# that keeps eight quads of a row; a kernel that keeps rows is compiled for 1, 2, 4 or 8 quads and for
# none, and its budget is for the most. Products keep their sums in registers: as many as leave room
# for two blocks of 256 threads, eight of 64, or four.
BUDGETS = {
    "activation/activation_gradients": 32,
    "activation/activate_rows": 32,
    "arithmetic/clamp_gradients": 32,
    "arithmetic/clamp_rows": 32,
    "arithmetic/select_rows": 32,
    "arithmetic/mix_gradients": 32,
    "arithmetic/mix_rows": 32,
    "arithmetic/multiply_add_rows": 32,
    "dropout/drop_rows": 32,
    "normalization/normalize_gradients": 64,
    "normalization/normalize_rows": 48,
    "dense/add_slices": 48,
    "products/multiply": 128,
    "products/tile_products": 128,
    "weight_gradients/add_slices": 56,
    "weight_gradients/slice_products": 200,
    "gru/clear_spare_rows": 32,
    "gru/copy_valid_rows": 32,
    "gru_cluster/arrange_rows": 40,
    "gru_cluster_backward/arrange_columns": 40,
    "gru_steps/begin_carry": 40,
    "gru_steps/begin_gradients": 40,
    "gru_steps/step": 40,
    "gru_steps/step_gradients": 40,
    "lstm/prepare_rows": 32,
    "lstm_cluster/arrange_rows": 40,
    "lstm_cluster_backward/arrange_columns": 40,
    "lstm_steps/begin_carry": 40,
    "lstm_steps/begin_gradients": 40,
    "lstm_steps/step": 40,
    "lstm_steps/step_gradients": 40,
    "movement/particle_sums": 40,
    "movement/route_rows": 32,
    "adamw/square_sums": 40,
    "adamw/update_quads": 64,
    "log_mean_exp/log_mean_exp_gradients": 64,
    "log_mean_exp/log_mean_exp_rows": 56,
    "sums/column_sums": 32,
    "sums/few_row_sums": 64,
    "sums/time_sums": 32,
    "chain/run_chain": 128,
    "categorical/kl_gradients": 56,
    "categorical/kl_rows": 40,
    "categorical/draw_rows": 48,
    "categorical/softmax_gradients": 32,
    "categorical/softmax_rows": 64,
    "cells/lstm_cell_gradients": 64,
    "cells/lstm_cells": 48,
    "cells/gru_cell_gradients": 64,
    "cells/gru_cells": 48,
    "gaussian_head/map_rows": 32,
    "gaussian_head/map_gradients": 32,
    "gaussian_kl/kl_rows": 32,
    "gaussian_kl/kl_gradients": 40,
    "gaussian_log_density/density_gradients": 32,
    "gaussian_log_density/density_rows": 32,
    "gaussian_sample/sample_rows": 32,
    "gaussian_sample/sample_gradients": 32,
    "gaussian_sample_kl/sample_kl_rows": 48,
    "gaussian_sample_kl/sample_kl_gradients": 64,
    "likelihood/categorical_means": 64,
    "likelihood/mean_rows": 32,
    "likelihood/categorical_gradients": 40,
    "likelihood/likelihood_gradients": 40,
    "likelihood/categorical_rows": 32,
    "likelihood/poisson_rows": 32,
    "likelihood/bernoulli_rows": 32,
    "likelihood_sample/class_draws": 40,
    "likelihood_sample/component_draws": 56,
    "matrix_product/multiply_rows": 40,
}

# A small matrix's rows are registers, of up to 32 doubles; blocks of 32 threads, of which a
# multiprocessor has room for as many as these leave.
KALMAN = ("kalman_filter/filter_sequences", "filter_chunks/summarise_chunks", "filter_chunks/find_starts",
          "filter_chunks/filter_from_starts", "filter_chunks/conclude",
          "kalman_smoother/map_chunks", "kalman_smoother/smooth_chunks", "kalman_backward/map_chunks",
          "kalman_backward/differentiate_chunks", "chunk_ends/apply_maps",
          "kalman_forecast/forecast_sequences", "kalman_simulate/simulate_sequences",
          "gains/keep_gains", "kalman_sample/draw_paths",
          "kalman_sample_backward/differentiate_draws",
          "covariance_gradient/differentiate_covariances")
BUDGETS |= {name: 255 for name in KALMAN}
BUDGETS |= {"gradient_sums/clear_entries": 40, "gradient_sums/add_sequences": 40}

# One block a multiprocessor of 256 threads, whose registers hold the recurrent weights: 255 each.
IN_CLUSTER = ("gru_cluster/gru_steps", "gru_cluster_backward/gru_gradients",
              "lstm_cluster/lstm_steps", "lstm_cluster_backward/lstm_gradients")
BUDGETS |= {name: 255 for name in IN_CLUSTER}

# A thread of these takes one column, unit, or element of a small matrix at a time.
BY_ELEMENT = ("sums/", "matrix_product/", "gru/clear_spare_rows", "gru_steps/", "gru_cluster",
              "lstm_steps/", "lstm_cluster", "kalman_", "filter_chunks/", "chunk_ends/",
              "gains/", "gradient_sums/", "covariance_gradient/")

# Machine code that must be there, by kernel: rows that fit are read 16 bytes at a time.
MUST_HAVE = {name: r"\bLDG\.E\.128\b" for name in BUDGETS if not name.startswith(BY_ELEMENT)}
# Its matrices lie in shared memory or out of it, as a table says.
MUST_HAVE["chain/run_chain"] = r"\bLD\.E\.128\b"
# Rows of small matrices that others work on are broadcast 16 bytes at a time (8 of two floats), from
# shared memory, or, of 64 states, from the workspace.
for name in KALMAN:
    if name not in ("filter_chunks/conclude", "kalman_simulate/simulate_sequences"):
        MUST_HAVE[name] = r"\bLD[SG]?(\.E)?\.(64|128)\b"
# Machine code that no kernel may have.
FORBIDDEN = {
    "local memory": r"\b(LDL|STL)\b",
    "a float atomic": r"\b(RED|REDG|ATOM|ATOMG|ATOMS)\.[A-Z0-9_.]*(F16|BF16|F32|F64)",
}

failures = []


def expect(holds, text):
    if not holds:
        failures.append(text)
        print("FAILED:", text)


def run(*command, path=None):
    env = dict(os.environ, PATH=path) if path else None
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def kernel_name(source, symbol):
    """FILE/FUNCTION of a mangled name."""
    readable = run("c++filt", symbol).strip().replace("(anonymous namespace)::", "")
    return f"{source.stem}/{re.split('[(<]', readable)[0].split('::')[-1].split(' ')[-1]}"


def check_ptxas(source, report):
    """Names the kernels that were compiled, each with its architecture."""
    seen = []
    for entry in re.split(r"Compiling entry function '", report)[1:]:
        name, architecture = kernel_name(source, entry.split("'")[0]), entry.split("'")[2]
        seen.append((name, architecture))
        where = f"{name} for {architecture}"
        stack, stores, loads = map(int, re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads",
            entry).groups())
        registers = int(re.search(r"Used (\d+) registers", entry).group(1))
        print(f"{where}: {registers} registers of {BUDGETS.get(name, '?')}, {stack} bytes of stack")
        expect(stack == 0, f"{where}: {stack} bytes of stack")
        expect(stores == 0 and loads == 0, f"{where}: spills {stores} + {loads} bytes")
        expect(name in BUDGETS, f"{name} has no budget of registers in {__file__}")
        expect(registers <= BUDGETS.get(name, 0), f"{where}: {registers} registers")
    return seen


def check_sass(source, fatbin, tools):
    """Names the kernels that were looked at, each with its architecture."""
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    listing = run(pathlib.Path(tools) / "cuobjdump", "-sass", fatbin, path=path)
    seen = []
    for of_architecture in re.split(r"code for ", listing)[1:]:
        architecture = of_architecture.split("\n")[0].strip()
        for part in re.split(r"Function : ", of_architecture)[1:]:
            name = kernel_name(source, part.split("\n")[0].strip())
            seen.append((name, architecture))
            where = f"{name} for {architecture}"
            for what, pattern in FORBIDDEN.items():
                found = re.search(pattern, part)
                expect(found is None, f"{where}: {what}: {found and found.group(0)}")
            if name in MUST_HAVE:
                expect(re.search(MUST_HAVE[name], part), f"{where}: lacks {MUST_HAVE[name]}")
            if name in IN_CLUSTER and architecture == "sm_90a":
                check_time_loop(where, part)
            if name == "chain/run_chain" and architecture == "sm_90a":
                check_exchange(where, part)
    return seen


def check_time_loop(where, listing):
    """From a step's first product to its last send: on the tensor cores, sent through distributed
    shared memory, and no fence of the whole device, which each step would wait for."""
    products = [m.start() for m in re.finditer(r"\bHMMA\.16816\.F32\.BF16", listing)]
    sends = [m.start() for m in re.finditer(r"\bSTAS\.128", listing)]
    inside = [m for m in sends if products and m > products[-1]]
    expect(products, f"{where}: no product on the tensor cores")
    expect(inside, f"{where}: sends nothing by STAS after its products")
    if products and inside:
        loop = listing[products[0]:inside[-1]]
        expect("MEMBAR" not in loop, f"{where}: MEMBAR in the loop over time")


def check_exchange(where, listing):
    """Between the first wait for sums and the last send of them, which is within the loop."""
    sends = [m.start() for m in re.finditer(r"\bSTAS\.128", listing)]
    waits = [m.start() for m in re.finditer(r"\bSYNCS\.PHASECHK", listing)]
    expect(sends and waits, f"{where}: no exchange by STAS and SYNCS")
    if sends and waits:
        loop = listing[min(sends + waits):max(sends + waits)]
        expect("MEMBAR" not in loop, f"{where}: MEMBAR in the loop over time")


def find_tools(folder):
    on_path = shutil.which("cuobjdump")
    if on_path and shutil.which("nvdisasm"):
        return str(pathlib.Path(on_path).parent)
    fetched = sorted(pathlib.Path(folder).glob("lib/python*/site-packages/nvidia/*/bin/cuobjdump"))
    return str(fetched[0].parent) if fetched else None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--room", required=True)
    parser.add_argument("--nvcc", required=True)
    parser.add_argument("--source", required=True, type=pathlib.Path)
    parser.add_argument("--tools", required=True)
    parser.add_argument("options", nargs="*")
    args = parser.parse_args()
    tools = find_tools(args.tools)
    sources = sorted(args.source.glob(f"kernels/{args.room}/*.cu"))
    seen = []
    with tempfile.TemporaryDirectory() as folder:
        for source in sources:
            fatbin = pathlib.Path(folder) / f"{source.stem}.fatbin"
            report = run(args.nvcc, *args.options, "-fatbin", "-Xptxas", "-v", f"-I{args.source}",
                         f"-I{args.source}/include", "-o", fatbin, source)
            compiled = check_ptxas(source, report)
            seen += compiled
            if tools:
                looked_at = check_sass(source, fatbin, tools)
                expect(sorted(looked_at) == sorted(compiled), f"{source}: not all was looked at")
    stems = {source.stem for source in sources}
    for name in BUDGETS:  # once, or for each set of its template's arguments
        stem = name.split("/")[0]
        expect(any(args.source.glob(f"kernels/*/{stem}.cu")), f"{name}: a budget without a file")
        for architecture in ARCHITECTURES if stem in stems else ():
            expect((name, architecture) in seen, f"{name}: not compiled for {architecture}")
    if not tools:
        names = ", ".join(FORBIDDEN)
        print(f"not checked, for want of cuobjdump and nvdisasm (scripts/sass_tools): {names}, "
              "16-byte loads")
    print(f"{len(seen)} kernels, {len(failures)} failures")
    sys.exit(1 if failures else 0)


main()
