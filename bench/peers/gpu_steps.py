"""Training steps of dmm.py and vrnn.py on a GPU: what bench_gpu_step is timed against.

Prints a line a case and rewrites --out (JSON) after each: whoever stops it loses nothing. A step is:
fresh noise, forward, backward, clipping by the global norm, Adam, the loss read by the host; without
tf32. The batch is bench_gpu_step's: sequences whose lengths spread evenly. Variants are those of
dmm.py and vrnn.py, called from Python ("rows") and in these forms:
  rows_graph          the whole step captured in a CUDA graph, which is replayed
  padded_compiled     the loss by torch.compile, mode reduce-overhead: the loop is unrolled
  padded_cells_graph  a step of the loop, and what is batched over time, by torch.compile, then all of
                      it captured in a CUDA graph
`us` is the median by the host's clock. Each variant has a process of its own, forked before CUDA is
touched, and --limit seconds: one that hangs is lost alone and says so in `failed`, as one that fails
does. After --budget seconds the rest are `skipped`. The compiled ones compile side by side."""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import pathlib
import signal
import statistics
import tempfile
import time
import warnings

BEGIN = time.perf_counter()
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR",
                      str(pathlib.Path(tempfile.gettempdir()) / "seqvae_gpu_steps"))
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")  # of each that compiles

import torch
from torch import nn

import dmm
import peerlib
import training
import vrnn

KINDS = {"dmm": (dmm.DeepMarkovModel, dmm.SIZES, dmm.VARIANTS, dmm.BETAS),
         "vrnn": (vrnn.VariationalRnn, vrnn.SIZES, vrnn.VARIANTS, vrnn.BETAS)}
PADDED = {"dmm": "padded", "vrnn": "batched"}  # of one shape at every step: what can be compiled
CELLS = {"dmm": ("terms",), "vrnn": ("before", "advance", "after")}  # and the DMM's combiner
SHORTEST, SMALL_SHORTEST = 20, 2
SMALL = {"x": 8, "z": 4, "emission_width": 5, "transition_width": 6, "rnn_width": 8, "hidden": 8,
         "B": 3, "T": 6}
WARM_UP, LEAST = 4, 5
MEASURE_SECONDS, MEASURE_LIMIT = 1.0, 15.0


def batch_of(sizes, shortest, device):
    T, B = sizes["T"], sizes["B"]
    lengths = torch.tensor([T - (T - shortest) * b // max(1, B - 1) for b in range(B)])
    mask = (torch.arange(T)[:, None] < lengths).float()
    x = (torch.rand(T, B, sizes["x"]) < 0.1).float() * mask[..., None]
    with torch.device(device):
        return training.Batch(x.to(device), lengths.to(device))


def step_of(model, batch, loss, betas, device):
    """One whole step, called from Python. It gives the loss, on the device."""
    adam = torch.optim.Adam(model.parameters(), lr=training.LEARNING_RATE, betas=betas, fused=True,
                            capturable=device == "cuda")

    def step():
        adam.zero_grad()
        value = loss(model, batch, None, training.BETA) / batch.rows.total
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.CLIP_NORM)
        adam.step()
        return value.detach()
    return step


def captured(step):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = step()

    def replay():
        graph.replay()
        return value
    return replay


def prepared(name, variant, form, sizes, shortest, device):
    """The step that is timed, warm, and the rows of its batch."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # of the CPU's work, where that is the device
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if device == "cpu" and form.endswith("graph"):
        raise RuntimeError("a CUDA graph needs a GPU")
    kind, _, variants, betas = KINDS[name]
    batch, model, loss = batch_of(sizes, shortest, device), kind(sizes).to(device), variants[variant]
    if form == "cells_graph":
        for method in CELLS[name]:
            setattr(model, method, torch.compile(getattr(model, method), dynamic=False))
        if name == "dmm":
            model.combiner.compile(dynamic=False)
    if form == "compiled":
        loss = torch.compile(loss, mode="reduce-overhead", dynamic=False)
    step = step_of(model, batch, loss, betas, device)
    if form.endswith("graph"):
        step = captured(step)
    for _ in range(WARM_UP):
        value = step().item()
    if not math.isfinite(value):
        raise ArithmeticError(f"the loss is {value}")
    return step, batch.rows.total


def timed(step):
    spans, sum_of = [], 0.0
    while len(spans) < LEAST or sum_of < MEASURE_SECONDS:
        begin = time.perf_counter()
        value = step().item()  # waits for all that was enqueued
        spans.append(time.perf_counter() - begin)
        sum_of += spans[-1]
    return {"us": round(1e6 * statistics.median(spans), 1), "min_us": round(1e6 * min(spans), 1),
            "steps": len(spans), "loss": value}


def told(error):
    """In one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


class Worker:
    """A variant in a process of its own: prepares at once, measures when it is told to."""

    def __init__(self, case, limit):
        self.case, self.limit, self.begin = case, limit, time.perf_counter()
        context = multiprocessing.get_context("fork")
        self.pipe, far = context.Pipe()
        self.process = context.Process(target=self.work, args=(far,))
        self.process.start()
        far.close()

    def work(self, pipe):
        os.setpgid(0, 0)  # so that what it starts ends with it
        self.pipe.close()
        warnings.simplefilter("ignore")
        try:
            step, rows = prepared(*self.case)
            pipe.send({"rows": rows,
                       "prepare_seconds": round(time.perf_counter() - self.begin, 1)})
            pipe.recv()
            pipe.send(timed(step))
        except EOFError:  # nobody asks any more
            pass
        except BaseException as error:
            pipe.send({"failed": told(error)})

    def answer(self, seconds):
        if not self.pipe.poll(max(0.0, seconds)):
            seconds = time.perf_counter() - self.begin
            return {"failed": f"had no answer after {seconds:.0f} s"}
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return {"failed": f"its process ended, status {self.process.exitcode}"}

    def result(self):
        """Waits for it to be prepared, and measures."""
        try:
            found = self.answer(self.begin + self.limit - time.perf_counter())
            if "failed" not in found:
                with contextlib.suppress(OSError):
                    self.pipe.send("measure")
                found |= self.answer(MEASURE_LIMIT)
            return found
        finally:
            self.end()

    def end(self):
        self.pipe.close()
        for kill in (lambda: os.killpg(self.process.pid, signal.SIGKILL), self.process.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill()
        self.process.join(10)


class Report:
    def __init__(self, chosen):
        self.path, self.budget, self.cases = chosen.out, chosen.budget, []
        self.about = {"peer": "pytorch", "device": chosen.device, "dtype": "float32",
                      "versions": {"torch": torch.__version__, "cuda": torch.version.cuda}}

    def left(self):
        return self.budget - (time.perf_counter() - BEGIN)

    def add(self, record):
        self.cases.append(record)
        print(record["name"], record["shape"], record["variant"],
              *(f"{key}: {record[key]}" for key in ("us", "failed", "skipped") if key in record),
              flush=True)
        if self.path:
            text = json.dumps(self.about | {
                "seconds": round(time.perf_counter() - BEGIN, 1), "cases": self.cases}, indent=1)
            fresh = self.path.with_name(self.path.name + ".part")
            fresh.write_text(text + "\n")
            fresh.replace(self.path)


def plan():
    """(name, variant, form), most wanted first, in stages; a stage's workers start together where it
    compiles."""
    def all_of(form):
        depth = max(len(kind[2]) for kind in KINDS.values())
        return [(name, list(kind[2])[i], form) for i in range(depth)
                for name, kind in KINDS.items() if i < len(kind[2])]
    compiled = [(name, PADDED[name], form) for form in ("cells_graph", "compiled") for name in KINDS]
    return [(all_of("graph"), False), (compiled, True), (all_of(""), False)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--budget", type=float, default=120, help="seconds")
    parser.add_argument("--limit", type=float, default=60, help="seconds of a variant")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes to try it at, without a GPU")
    chosen = parser.parse_args()
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
    report = Report(chosen)

    def start(name, variant, form):
        sizes = KINDS[name][1] | (SMALL if chosen.small else {})
        shortest = SMALL_SHORTEST if chosen.small else SHORTEST
        return Worker((name, variant, form, sizes, shortest, chosen.device),
                      max(1.0, min(chosen.limit, report.left())))

    for cases, together in plan():
        ahead = [start(*case) for case in cases] if together and report.left() > 0 else []
        try:
            for i, (name, variant, form) in enumerate(cases):
                sizes = KINDS[name][1] | (SMALL if chosen.small else {})
                record = {"name": f"{name}_step", "shape": f"{sizes['B']}x{sizes['T']}",
                          "variant": f"{variant}_{form}".rstrip("_")}
                if ahead:
                    worker = ahead[i]
                elif report.left() > 0:
                    worker = start(name, variant, form)
                else:
                    report.add(record | {"skipped": f"the budget of {chosen.budget:g} s was spent"})
                    continue
                report.add(record | worker.result())
        finally:
            for worker in ahead:
                worker.end()
    peerlib.answer(report.about | {"seconds": round(time.perf_counter() - BEGIN, 1),
                                   "records": len(report.cases)})


if __name__ == "__main__":
    main()
