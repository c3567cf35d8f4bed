"""Kernels on a GPU in PyTorch (and the recurrence in JAX): what the CUDA kernels are timed against.

Prints a line a case and rewrites --out (JSON) after each: whoever stops it loses nothing. A case
that fails says so in `failed`; after --budget seconds the rest are `skipped`. Groups:
  ceilings    a copy of 1 GiB (bytes read and written), square matrix products
  kernels     include/seqvae/kernels: equations of gaussian.hpp, likelihood.hpp and so on, float32,
              at each --shape ROWSxD; adamw by its parameters, clipped by the global norm
  recurrence  torch.nn.GRU and LSTM (cuDNN, training mode) and a lax.scan in JAX, sizes S, M, L:
              forward keeps what backward needs; backward is of sum(output * g), for input and
              weights; ragged: lengths from 30 to T, packed beforehand
Variants of a kernel:
  eager           as a careful user writes it, backward by the closed form (layer_norm: ATen's own)
  eager_no_graph  the same called from Python, at the last shape: what launching adds
  compiled        torch.compile of the equations, whole graph, static shapes
  compiled_state  the cells without the gates that backward reads
  fused           the cells by ATen's kernels (those of GRUCell and LSTMCell)
  eager_flat      adamw in one tensor; eager is in 20, compiled is in one, from the equations
`us` is the median of replays of a CUDA graph of up to 10 calls (recurrences: 1), a call. Replays
read the same memory, so that small shapes stand in the cache. `bytes` counts what a variant is
given and gives back once each; PyTorch cannot draw noise a second time, so that
gaussian_sample_kl_backward is given eps and layer_norm_backward (eager) the row's moments, which
this library's kernels make again. gru_cell_backward is given and counts q's third part alone, which
is all it reads; adamw's gradients count twice, as their norm comes first. The compiled adamw does
not test whether the norm is finite. categorical has no mask; multiply_add has beta = 1."""

import argparse
import contextlib
import functools
import gc
import importlib
import json
import math
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from typing import NamedTuple

BEGIN = time.perf_counter()
CACHE = pathlib.Path(tempfile.gettempdir()) / "seqvae_gpu_kernels"
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE))
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # see compile_ahead
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils._pytree import tree_leaves

import peerlib

SHAPES = ("4194304x64", "2580x100")
SMALL_SHAPES = ("4096x64", "258x100")
PARAMETERS, SMALL_PARAMETERS = (30_000_000, 300_000), (30_000, 3_000)
# B, T, I, H
SIZES = {"S": (20, 129, 88, 600), "M": (64, 256, 64, 512), "L": (256, 1024, 128, 1024)}
SMALL_SIZES = {"S": (4, 33, 8, 12), "M": (4, 40, 8, 16), "L": (4, 48, 8, 16)}
SHORTEST = 30  # of the ragged sequences
CASE_SECONDS = 40  # a variant that takes longer has failed
COMPILE_SHARE = 0.4  # of the budget, compile_ahead's at most
MEASURE_SECONDS = 0.12  # of replays, if that is 5 or more
DROPOUT = 0.1
ALPHA = 0.5
LEARNING_RATE, BETA1, BETA2, EPSILON, DECAY, CLIP_NORM = 1e-3, 0.9, 0.999, 1e-8, 0.01, 1.0


# The equations. D is the last dimension; a row's g or gk is [rows].

def kl_terms(mu_q, logvar_q, mu_p, logvar_p):
    difference = mu_q - mu_p
    return 0.5 * (logvar_p - logvar_q - 1 + torch.exp(logvar_q - logvar_p)
                  + difference * difference * torch.exp(-logvar_p))


def gaussian_kl(mu_q, logvar_q, mu_p, logvar_p):
    return kl_terms(mu_q, logvar_q, mu_p, logvar_p).sum(-1)


def gaussian_sample_kl(mu_q, logvar_q, mu_p, logvar_p):
    z = mu_q + torch.exp(0.5 * logvar_q) * torch.randn_like(mu_q)
    return z, kl_terms(mu_q, logvar_q, mu_p, logvar_p).sum(-1)


def gaussian_sample_kl_backward(mu_q, logvar_q, mu_p, logvar_p, eps, gz, gk):
    gk, difference = gk[:, None], mu_q - mu_p
    scaled, ratio = difference * torch.exp(-logvar_p), torch.exp(logvar_q - logvar_p)
    grad_mu = gk * scaled
    return (gz + grad_mu,
            0.5 * (gz * eps * torch.exp(0.5 * logvar_q) + gk * (ratio - 1)),
            -grad_mu,
            0.5 * gk * (1 - ratio - difference * scaled))


def gaussian_log_density(x, mask, mu, logvar):
    difference = x - mu
    terms = math.log(2 * math.pi) + logvar + difference * difference * torch.exp(-logvar)
    return -0.5 * (mask * terms).sum(-1)


def gaussian_log_density_backward(x, mask, mu, logvar, g):
    g, difference = g[:, None] * mask, x - mu
    scaled = difference * torch.exp(-logvar)
    grad_mu = g * scaled
    return -grad_mu, grad_mu, -0.5 * g * (1 - difference * scaled)


def bernoulli(x, mask, logits):
    return -F.binary_cross_entropy_with_logits(logits, x, weight=mask, reduction="none").sum(-1)


def bernoulli_backward(x, mask, logits, g):
    return g[:, None] * mask * (x - torch.sigmoid(logits))


def categorical(x, logits):
    return (x * torch.log_softmax(logits, -1)).sum(-1)


def softmax(logits):
    return torch.softmax(logits, -1)


def layer_norm(x):
    return F.layer_norm(x, x.shape[-1:])


def layer_norm_backward(x, g):
    centred = x - x.mean(-1, keepdim=True)
    scale = torch.rsqrt((centred * centred).mean(-1, keepdim=True) + 1e-5)
    y = centred * scale
    return scale * (g - g.mean(-1, keepdim=True) - y * (g * y).mean(-1, keepdim=True))


def layer_norm_backward_aten(x, g, mean, scale):
    return torch.ops.aten.native_layer_norm_backward(g, x, x.shape[-1:], mean, scale, None, None,
                                                     [True, False, False])[0]


def dropout(x):
    return F.dropout(x, DROPOUT, training=True)


def gru_cell(a, q, h):
    a_r, a_z, a_n = a.chunk(3, -1)
    q_r, q_z, q_n = q.chunk(3, -1)
    r, z = torch.sigmoid(a_r + q_r), torch.sigmoid(a_z + q_z)
    n = torch.tanh(a_n + r * q_n)
    return (1 - z) * n + z * h, torch.cat([r, z, n], -1)


def gru_cell_state(a, q, h):
    return gru_cell(a, q, h)[0]


def gru_cell_backward(gates, q_n, h, g):
    r, z, n = gates.chunk(3, -1)
    grad_z, grad_n = g * (h - n) * z * (1 - z), g * (1 - z) * (1 - n * n)
    grad_r = grad_n * q_n * r * (1 - r)
    return (torch.cat([grad_r, grad_z, grad_n], -1), torch.cat([grad_r, grad_z, grad_n * r], -1),
            z * g)


def lstm_cell(a, c):
    i, f, g, o = a.chunk(4, -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c_next = f * c + i * g
    return o * torch.tanh(c_next), c_next, torch.cat([i, f, g, o], -1)


def lstm_cell_state(a, c):
    return lstm_cell(a, c)[:2]


def lstm_cell_backward(gates, c, c_next, grad_h, grad_c_next):
    i, f, g, o = gates.chunk(4, -1)
    t = torch.tanh(c_next)
    grad = grad_c_next + grad_h * o * (1 - t * t)
    return (torch.cat([grad * g * i * (1 - i), grad * c * f * (1 - f), grad * i * (1 - g * g),
                       grad_h * t * o * (1 - o)], -1), grad * f)


def tanh(x):
    return torch.tanh(x)


def multiply_add(a, b, c):
    return torch.addcmul(c, a, b, value=ALPHA)


def sum_over_rows(x):
    return x.sum(0)


def adamw(p, g, m, v, n):
    scale = torch.clamp(CLIP_NORM / (torch.linalg.vector_norm(g) + 1e-6), max=1.0)
    g = g * scale
    n.add_(1)
    m.lerp_(g, 1 - BETA1)
    v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
    step = m / (1 - BETA1 ** n) / (torch.sqrt(v / (1 - BETA2 ** n)) + EPSILON)
    p.sub_(LEARNING_RATE * (step + DECAY * p))


# The kernels' cases.

class Call(NamedTuple):
    function: object
    arguments: tuple
    bytes: int | None = None  # None: arguments and results


class Make:
    """Arguments for `rows` rows of D columns."""

    def __init__(self, rows, D, device, dtype=torch.float32):
        self.rows, self.D, self.options = rows, D, {"device": device, "dtype": dtype}

    def x(self, width=1):
        return torch.randn(self.rows, width * self.D, **self.options)

    def logvar(self):
        return self.x().mul_(0.3)

    def binary(self, share):
        return (torch.rand(self.rows, self.D, **self.options) < share).to(self.options["dtype"])

    def one_hot(self):
        chosen = torch.randint(self.D, (self.rows, 1), device=self.options["device"])
        return torch.zeros(self.rows, self.D, **self.options).scatter_(1, chosen, 1.0)

    def row(self):
        return torch.randn(self.rows, **self.options)

    def gates(self, width):
        return self.x(width).sigmoid_()

    def gaussians(self):
        return self.x(), self.logvar(), self.x(), self.logvar()


def both(function, *arguments):
    return {"eager": Call(function, arguments), "compiled": Call(function, arguments)}


def layer_norm_backward_calls(make):
    x, g = make.x(), make.x()
    _, mean, scale = torch.native_layer_norm(x, x.shape[-1:], None, None, 1e-5)
    return {"eager": Call(layer_norm_backward_aten, (x, g, mean, scale)),
            "compiled": Call(layer_norm_backward, (x, g))}


def gru_cell_calls(make):
    given = make.x(3), make.x(3), make.x()
    return both(gru_cell, *given) | {
        "compiled_state": Call(gru_cell_state, given),
        "fused": Call(torch.ops.aten._thnn_fused_gru_cell.default, given)}


def gru_cell_backward_calls(make):
    gates, q, h, g = make.gates(3), make.x(3), make.x(), make.x()
    return both(gru_cell_backward, gates, q[:, 2 * make.D:], h, g) | {
        "fused": Call(lambda g, saved: torch.ops.aten._thnn_fused_gru_cell_backward(
            g, saved, False)[:3], (g, make.gates(5)))}


def lstm_cell_calls(make):
    a, c = make.x(4), make.x()
    return both(lstm_cell, a, c) | {
        "compiled_state": Call(lstm_cell_state, (a, c)),
        "fused": Call(torch.ops.aten._thnn_fused_lstm_cell.default, (a, make.x(4), c))}


def lstm_cell_backward_calls(make):
    gates, rest = make.gates(4), [make.x() for _ in range(4)]
    c, c_next, grad_h, grad_c_next = rest
    return both(lstm_cell_backward, gates, *rest) | {
        "fused": Call(lambda *given: torch.ops.aten._thnn_fused_lstm_cell_backward_impl(
            *given, False)[:2], (grad_h, grad_c_next, c, c_next, gates))}


# Most wanted first.
KERNELS = {
    "gaussian_sample_kl": lambda m: both(gaussian_sample_kl, *m.gaussians()),
    "gaussian_sample_kl_backward": lambda m: both(
        gaussian_sample_kl_backward, *m.gaussians(), m.x(), m.x(), m.row()),
    "gaussian_kl": lambda m: both(gaussian_kl, *m.gaussians()),
    "bernoulli": lambda m: both(bernoulli, m.binary(0.3), m.binary(0.9), m.x()),
    "layer_norm": lambda m: both(layer_norm, m.x()),
    "layer_norm_backward": layer_norm_backward_calls,
    "softmax": lambda m: both(softmax, m.x()),
    "gru_cell": gru_cell_calls,
    "gru_cell_backward": gru_cell_backward_calls,
    "lstm_cell": lstm_cell_calls,
    "lstm_cell_backward": lstm_cell_backward_calls,
    "sum_over_rows": lambda m: both(sum_over_rows, m.x()),
    "gaussian_log_density": lambda m: both(
        gaussian_log_density, m.x(), m.binary(0.9), m.x(), m.logvar()),
    "gaussian_log_density_backward": lambda m: both(
        gaussian_log_density_backward, m.x(), m.binary(0.9), m.x(), m.logvar(), m.row()),
    "bernoulli_backward": lambda m: both(
        bernoulli_backward, m.binary(0.3), m.binary(0.9), m.x(), m.row()),
    "categorical": lambda m: both(categorical, m.one_hot(), m.x()),
    "dropout": lambda m: both(dropout, m.x()),
    "multiply_add": lambda m: both(multiply_add, m.x(), m.x(), m.x()),
    "tanh": lambda m: both(tanh, m.x()),
}


def adamw_in_torch(count, tensors, device):
    """clip_grad_norm_ and AdamW.step of `count` parameters in so many tensors."""
    parameters = [nn.Parameter(torch.randn(count // tensors, device=device))
                  for _ in range(tensors)]
    for p in parameters:
        p.grad = torch.randn_like(p)
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, (BETA1, BETA2), EPSILON, DECAY,
                                  fused=True, capturable=device == "cuda")

    def step():
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM, foreach=True)
        optimizer.step()
    return step


def adamw_calls(count, device):
    moved = 32 * count  # p, m, v read and written, g read twice: its norm comes first
    flat = [torch.randn(count, device=device) for _ in range(3)] + [
        torch.rand(count, device=device), torch.zeros((), device=device)]
    return {"eager": Call(adamw_in_torch(count, 20, device), (), moved),
            "compiled": Call(adamw, tuple(flat), moved),
            "eager_flat": Call(adamw_in_torch(count, 1, device), (), moved)}


def prepared(variant, call):
    """The function of no arguments that is timed."""
    function = call.function
    if variant.startswith("compiled"):
        function = torch.compile(function, mode="default", fullgraph=True, dynamic=False)
    return functools.partial(function, *call.arguments)


def bytes_of(call, results):
    if call.bytes is not None:
        return call.bytes
    tensors = [t for t in tree_leaves((call.arguments, results)) if isinstance(t, torch.Tensor)]
    return sum(t.numel() * t.element_size() for t in {t.data_ptr(): t for t in tensors}.values())


# Time.

class Timer:
    def __init__(self, device):
        self.device = device
        self.stream = torch.cuda.Stream() if device == "cuda" else None

    def spans(self, run, least):
        """Seconds of each of several calls of run, after one that is not counted."""
        if self.device != "cuda":
            return peerlib.measure(run, 1, 3)
        def go(times):
            events = [torch.cuda.Event(enable_timing=True) for _ in range(times + 1)]
            events[0].record()
            for event in events[1:]:
                run()
                event.record()
            torch.cuda.synchronize()
            return [1e-3 * a.elapsed_time(b) for a, b in zip(events, events[1:])]
        first = go(1)[0]
        return go(max(least, min(50, int(MEASURE_SECONDS / max(first, 1e-6)))))

    def warm(self, call):
        """What the call gives and about how many seconds it takes, on the stream of the graphs."""
        if self.device != "cuda":
            return call(), 0.0
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            results = call()
            seconds = self.once(call)
        torch.cuda.current_stream().wait_stream(self.stream)
        return results, seconds

    @staticmethod
    def once(call):
        call()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return 1e-3 * begin.elapsed_time(end)

    def by_graph(self, call, calls, least=5):
        """Microseconds a call in replays of a graph of so many, of a call that is warm."""
        if self.device != "cuda":
            return self.from_python(call, least)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            for _ in range(calls):
                call()
        try:
            spans = self.spans(graph.replay, least)
        finally:
            torch.cuda.synchronize()
            graph.reset()
        return figures(spans, calls, "graph")

    def from_python(self, call, least=5):
        return figures(self.spans(call, least), 1, "events" if self.device == "cuda" else "wall")


def figures(spans, calls, timing):
    """Of seconds a span of so many calls."""
    us = [1e6 * s / calls for s in spans]
    return {"us": round(statistics.median(us), 3), "min_us": round(min(us), 3),
            "timing": timing, "calls": calls, "spans": len(us)}


# What is reported.

def told(error):
    """In one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:160]


class Report:
    def __init__(self, path, budget, about):
        self.path, self.budget, self.about, self.cases = path, budget, about, []

    def left(self):
        return self.budget - (time.perf_counter() - BEGIN)

    def add(self, record):
        self.cases.append(record)
        words = [record["name"], record["shape"], record.get("variant", "")]
        for key, unit in (("us", "us"), ("gb_per_s", "GB/s"), ("tflop_per_s", "TFLOP/s")):
            if record.get(key) is not None:
                words += [f"{record[key]:.5g}", unit]
        words += [f"{key}: {record[key]}" for key in ("failed", "skipped", "no_graph")
                  if key in record]
        print(*words, flush=True)
        self.write()

    def skip(self, record):
        self.add(record | {"skipped": f"the budget of {self.budget:g} s was spent"})

    def write(self):
        if self.path:
            text = json.dumps(self.about | {
                "seconds": round(time.perf_counter() - BEGIN, 1), "cases": self.cases}, indent=1)
            fresh = self.path.with_name(self.path.name + ".part")
            fresh.write_text(text + "\n")
            fresh.replace(self.path)

    def run(self, name, shape, variant, measure, **more):
        """One record of what `measure` finds: a dictionary with `us`, bytes, flop."""
        record = {"name": name, "shape": shape, "variant": variant} | more
        if self.left() <= 0:
            self.skip(record)
            return
        try:
            with limit(max(1.0, min(CASE_SECONDS, self.left()))), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = measure()
            record |= {"bytes": None, "gb_per_s": None} | found
            for key, rate, unit in (("bytes", "gb_per_s", 1e9), ("flop", "tflop_per_s", 1e12)):
                if record.get(key) is not None:
                    record[rate] = round(record[key] / (1e-6 * record["us"]) / unit, 3)
        except Exception as error:
            record |= {"failed": told(error)}
        self.add(record)


@contextlib.contextmanager
def limit(seconds):
    """TimeoutError where the block takes longer."""
    def late(*_):
        raise TimeoutError(f"took longer than {seconds:.0f} s")
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds, 3.0)  # again where it was caught inside
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def release(device):
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


# The groups. Each item of a plan is a function that reports one case, all its variants.

def kernel_case(report, timer, name, shape, calls, no_graph):
    """`calls()` gives the variants."""
    if report.left() <= 0:
        report.skip({"name": name, "shape": shape})
        return
    try:
        variants = calls()
    except Exception as error:
        report.add({"name": name, "shape": shape, "failed": told(error)})
        return

    def measure(variant, call, graph):
        run = prepared(variant, call)
        results, seconds = timer.warm(run)
        moved = bytes_of(call, results)
        del results
        found = (timer.by_graph(run, 10 if seconds < 1e-3 else 3) if graph else
                 timer.from_python(run, 10))
        return found | {"bytes": moved}

    with torch.no_grad():
        for variant, call in variants.items():
            report.run(name, shape, variant, lambda: measure(variant, call, True))
            if no_graph and variant == "eager":
                report.run(name, shape, "eager_no_graph", lambda: measure(variant, call, False))


@contextlib.contextmanager
def tf32(on):
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


PRECISIONS = {"float32": (torch.float32, False), "tf32": (torch.float32, True),
              "bfloat16": (torch.bfloat16, False)}


def copy_case(report, timer, count):
    def measure():
        source = torch.randn(count, device=timer.device)
        target = torch.empty_like(source)
        timer.warm(lambda: target.copy_(source))
        return timer.by_graph(lambda: target.copy_(source), 10) | {"bytes": 8 * count}
    report.run("copy", f"{4 * count}_bytes", "eager", measure)


def product_case(report, timer, n, precision):
    def measure():
        dtype, allow = PRECISIONS[precision]
        a, b = (torch.randn(n, n, device=timer.device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        with tf32(allow):
            timer.warm(lambda: torch.mm(a, b, out=out))
            return timer.by_graph(lambda: torch.mm(a, b, out=out), 3) | {"flop": 2 * n**3}
    report.run("matmul", f"{n}x{n}x{n}", precision, measure)


def recurrence_case(report, timer, kind, size, sizes, precision, backward, ragged=False):
    B, T, I, H = sizes
    dtype, allow = PRECISIONS[precision]

    def measure():
        layer = {"gru": nn.GRU, "lstm": nn.LSTM}[kind](I, H).to(timer.device, dtype)
        layer.flatten_parameters()
        x = torch.randn(T, B, I, device=timer.device, dtype=dtype)
        rows = T * B
        if ragged:
            lengths = torch.randint(min(SHORTEST, T), T + 1, (B,),
                                    generator=torch.Generator().manual_seed(0))
            lengths[0] = T
            packed = pack_padded_sequence(x, lengths.sort(descending=True).values)
            x, rows = packed.data.detach(), int(lengths.sum())
        x.requires_grad_(backward)
        g = torch.randn(*x.shape[:-1], H, device=timer.device, dtype=dtype)
        wanted = [x, *layer.parameters()]

        def output():
            given = PackedSequence(x, packed.batch_sizes) if ragged else x
            found = layer(given)[0]
            return found.data if ragged else found

        def call():
            with torch.set_grad_enabled(backward):
                found = output()
                return torch.autograd.grad(found, wanted, g) if backward else found
        gates = {"gru": 3, "lstm": 4}[kind]
        flop = 2 * rows * gates * H * (H + I) * (3 if backward else 1)
        with tf32(allow):
            timer.warm(call)
            try:
                found = timer.by_graph(call, 1, 3)
            except RuntimeError as error:  # what cannot be captured
                found = timer.from_python(call, 3) | {"no_graph": str(error).splitlines()[0][:200]}
        return found | {"flop": flop, "rows": rows}
    report.run(f"{kind}_{'forward_backward' if backward else 'forward'}", size,
               precision + ("_ragged" if ragged else ""), measure,
               sizes={"B": B, "T": T, "I": I, "H": H})


def jax_gru():
    """PyTorch's GRU from zeros: the input's product for all steps at once, then a scan."""
    import jax
    import jax.numpy as jnp

    def forward(x, W, U, b, c):
        def cell(h, a):
            (a_r, a_z, a_n), (q_r, q_z, q_n) = (jnp.split(v, 3, -1) for v in (a, h @ U.T + c))
            r, z = jax.nn.sigmoid(a_r + q_r), jax.nn.sigmoid(a_z + q_z)
            h = (1 - z) * jnp.tanh(a_n + r * q_n) + z * h
            return h, h
        return jax.lax.scan(cell, jnp.zeros((x.shape[1], U.shape[1])), x @ W.T + b)[1]
    return jax.jit(forward)


def jax_case(report, device, size, sizes, precision):
    """The weights are PyTorch's, so that both compute the same."""
    B, T, I, H = sizes

    def measure():
        import jax
        found = jax.devices()[0]
        if device == "cuda" and found.platform != "gpu":
            raise RuntimeError(f"JAX sees no GPU, only {found}")
        report.about["versions"]["jax"] = jax.__version__
        given = [jax.device_put(v.detach().numpy())
                 for v in (torch.randn(T, B, I), *nn.GRU(I, H).parameters())]
        with jax.default_matmul_precision("highest" if precision == "float32" else "tensorfloat32"):
            forward = jax_gru()
            spans = peerlib.measure(lambda: forward(*given).block_until_ready(), 2, 7)
        return figures(spans, 1, "wall") | {"flop": 2 * T * B * 3 * H * (H + I)}
    report.run("gru_forward", size, f"jax_{precision}", measure,
               sizes={"B": B, "T": T, "I": I, "H": H})


def kernel_plan(chosen):
    """(name, shape, the function that makes its calls) of all, and how many come first."""
    def rows_of(shape):
        rows, D = map(int, shape.split("x"))
        return rows, D
    def wanted(name):
        return not chosen.only or name in chosen.only
    def made(calls, shape):
        return lambda: calls(Make(*rows_of(shape), chosen.device))
    plan = [(name, shape, made(calls, shape))
            for shape in chosen.shape for name, calls in KERNELS.items() if wanted(name)]
    adam = [("adamw", str(count), lambda count=count: adamw_calls(count, chosen.device))
            for count in (SMALL_PARAMETERS if chosen.small else PARAMETERS) if wanted("adamw")]
    first = sum(shape == chosen.shape[0] for _, shape, _ in plan)
    return plan[:first] + adam + plan[first:], first + len(adam)


def plan_of(chosen, report, timer):
    """All cases, most wanted first: ceilings, kernels at the first shape, S and M, the rest."""
    ceilings = [functools.partial(copy_case, report, timer, 2**18 if chosen.small else 2**28)]
    ceilings += [functools.partial(product_case, report, timer, 256 if chosen.small else 8192, p)
                 for p in ("bfloat16", "tf32", "float32")]
    kernels, first = kernel_plan(chosen)
    kernels = [functools.partial(kernel_case, report, timer, name, shape, calls,
                                 chosen.device == "cpu" or shape == chosen.shape[-1]
                                 or name == "adamw")
               for name, shape, calls in kernels]
    sizes = SMALL_SIZES if chosen.small else SIZES
    def recurrence(kind, size, precision, backward, ragged=False):
        return functools.partial(recurrence_case, report, timer, kind, size, sizes[size],
                                 precision, backward, ragged)
    S_and_M = [recurrence(kind, size, precision, backward)
               for size in "SM" for precision in PRECISIONS for kind in ("gru", "lstm")
               for backward in (False, True)]
    ragged = [recurrence(kind, "S", "float32", backward, True)
              for kind in ("gru", "lstm") for backward in (False, True)]
    L = [recurrence(kind, "L", precision, True)
         for precision in ("tf32", "bfloat16") for kind in ("gru", "lstm")]
    jax = [functools.partial(jax_case, report, chosen.device, size, sizes[size], precision)
           for size in "SM" for precision in ("float32", "tf32")]
    groups = {"ceilings": (ceilings, [], [], []),
              "kernels": (kernels[:first], [], kernels[first:], []),
              "recurrence": ([], S_and_M + ragged, L, jax)}
    return [case for rank in range(4) for group in ("ceilings", "kernels", "recurrence")
            if group in chosen.groups for case in groups[group][rank]]


# Compilation. One process compiles a graph after the other, some seconds each at first, while the
# GPU waits. So that all of them together take little of its time, processes share the graphs among
# them and leave what they make in the cache, where the timing process finds it.

def run_compiled(calls):
    for variant, call in calls.items():
        if variant.startswith("compiled"):
            prepared(variant, call)()


def compile_part(chosen):
    part, parts = map(int, chosen.compile_part.split("/"))
    for name, shape, calls in kernel_plan(chosen)[0][part::parts]:
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run_compiled(calls())
            release(chosen.device)
        except Exception as error:
            print(f"compiling {name} {shape}: {told(error)}", file=sys.stderr)


def compile_ahead(chosen, parts):
    """Seconds it took."""
    begin = time.perf_counter()
    processes = [subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--compile-part",
                                   f"{part}/{parts}"], stdout=subprocess.DEVNULL)
                 for part in range(parts)]
    try:
        importlib.import_module("torch._inductor.compile_fx")  # meanwhile: some seconds
        if chosen.device == "cuda":
            torch.zeros(1, device="cuda")
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, begin + COMPILE_SHARE * chosen.budget - time.perf_counter()))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    # They chose among launch shapes while they disturbed each other: it is done again when timed.
    for choice in pathlib.Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).rglob("*.best_config"):
        choice.unlink(missing_ok=True)
    return round(time.perf_counter() - begin, 1)


def about(device):
    versions = peerlib.versions("torch") | {"torch": torch.__version__, "cuda": torch.version.cuda}
    with contextlib.suppress(Exception):
        versions |= peerlib.versions("triton")
    found = {"peer": "pytorch", "versions": versions, "device": device, "dtype": "float32"}
    if device == "cuda":
        with contextlib.suppress(Exception):
            versions["cudnn"] = torch.backends.cudnn.version()
        properties = torch.cuda.get_device_properties(0)
        found |= {"device": properties.name, "multiprocessors": properties.multi_processor_count,
                  "memory_GiB": round(properties.total_memory / 2**30, 1)}
    return found


def clocks():
    """What nvidia-smi says of the driver and the clocks just after the work."""
    fields = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,temperature.gpu"
    done = subprocess.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
                          capture_output=True, text=True, check=True, timeout=10)
    return dict(zip(fields.split(","), map(str.strip, done.stdout.splitlines()[0].split(","))))


# The equations against PyTorch's own.

def check():
    """Whether the closed forms agree with autograd in float64 to 1e-10 of the largest entry, and
    cells and optimiser with PyTorch's."""
    make, good = Make(7, 5, "cpu", torch.float64), True

    def compare(name, output, backward, given, wanted, grads):
        """`backward`: what the closed form gives where `grads` are those of output(*given)."""
        nonlocal good
        leaves = [given[i].requires_grad_() for i in wanted]
        expected = torch.autograd.grad(output(*given), leaves, grads)
        actual = backward if isinstance(backward, tuple) else (backward,)
        errors = [((a - e).abs().max() / e.abs().max()).item() for a, e in zip(actual, expected)]
        fine = len(actual) == len(expected) and all(error <= 1e-10 for error in errors)
        good = good and fine
        print(f"{name}: {max(errors):.1e}" + ("" if fine else " WRONG"))

    d = lambda *tensors: [t.clone() for t in tensors]
    q, eps, gz, gk = make.gaussians(), make.x(), make.x(), make.row()
    compare("gaussian_sample_kl_backward",
            lambda *p: (p[0] + torch.exp(p[1] / 2) * eps, gaussian_kl(*p)),
            gaussian_sample_kl_backward(*q, eps, gz, gk), d(*q), range(4), (gz, gk))
    x, mask, bits, l, g = make.x(), make.binary(0.7), make.binary(0.3), make.logvar(), make.row()
    compare("gaussian_log_density_backward", gaussian_log_density,
            gaussian_log_density_backward(x, mask, q[0], l, g), d(x, mask, q[0], l), (0, 2, 3), g)
    compare("bernoulli_backward", bernoulli, bernoulli_backward(bits, mask, x, g),
            d(bits, mask, x), (2,), g)
    g = make.x()
    compare("layer_norm_backward", layer_norm, layer_norm_backward(x, g), d(x), (0,), g)
    calls = layer_norm_backward_calls(make)
    x, g = calls["compiled"].arguments
    compare("layer_norm_backward eager", layer_norm,
            calls["eager"].function(*calls["eager"].arguments), d(x), (0,), g)
    a, u, h = make.x(3), make.x(3), make.x()
    grad_a, grad_q, grad_h = gru_cell_backward(gru_cell(a, u, h)[1], u[:, 10:], h, g)
    compare("gru_cell_backward", gru_cell_state, (grad_a, grad_q, grad_h), d(a, u, h), range(3), g)
    a, c, gc = make.x(4), make.x(), make.x()
    _, c_next, gates = lstm_cell(a, c)
    compare("lstm_cell_backward", lstm_cell_state, lstm_cell_backward(gates, c, c_next, g, gc),
            d(a, c), range(2), (g, gc))
    # Whole cells and the optimiser against PyTorch's own.
    for kind, mine in ((nn.GRUCell, lambda m, x, h: gru_cell_state(
            F.linear(x, m.weight_ih, m.bias_ih), F.linear(h, m.weight_hh, m.bias_hh), h)),
                       (nn.LSTMCell, lambda m, x, h: lstm_cell_state(
            F.linear(x, m.weight_ih, m.bias_ih) + F.linear(h, m.weight_hh, m.bias_hh), h)[0])):
        cell = kind(5, 5).double()
        x, h = make.x(), make.x()
        theirs = cell(x, h) if kind is nn.GRUCell else cell(x, (h, h))[0]
        error = (mine(cell, x, h) - theirs).abs().max().item()
        good = good and error <= 1e-10
        print(f"{kind.__name__}: {error:.1e}")
    p, g = (torch.randn(50, dtype=torch.float64) for _ in range(2))
    theirs = nn.Parameter(p.clone())
    optimizer = torch.optim.AdamW([theirs], LEARNING_RATE, (BETA1, BETA2), EPSILON, DECAY)
    m, v, n = torch.zeros_like(p), torch.zeros_like(p), torch.zeros((), dtype=torch.float64)
    for _ in range(3):
        theirs.grad = g.clone()
        nn.utils.clip_grad_norm_([theirs], CLIP_NORM)
        optimizer.step()
        adamw(p, g, m, v, n)
    error = (p - theirs).abs().max().item()
    good = good and error <= 1e-10
    print(f"adamw: {error:.1e}")
    with contextlib.suppress(ImportError):
        layer, x = nn.GRU(5, 6), torch.randn(7, 3, 5)
        given = [v.detach().numpy() for v in (x, *layer.parameters())]
        error = abs(jax_gru()(*given) - layer(x)[0].detach().numpy()).max().item()
        good = good and error <= 1e-5
        print(f"GRU in JAX, float32: {error:.1e}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    groups = ("ceilings", "kernels", "recurrence")
    parser.add_argument("--groups", nargs="+", choices=groups, default=groups)
    parser.add_argument("--shape", action="append", help="ROWSxD; may be repeated")
    parser.add_argument("--only", nargs="+", choices=(*KERNELS, "adamw"), help="of the kernels")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--budget", type=float, default=75, help="seconds")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes to try it at, without a GPU")
    parser.add_argument("--compilers", type=int, help="processes that compile ahead; 0: none")
    parser.add_argument("--compile-part", help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true",
                        help="equations against autograd and PyTorch's own, on the CPU")
    chosen = parser.parse_args()
    chosen.shape = chosen.shape or (SMALL_SHAPES if chosen.small else SHAPES)
    if chosen.compile_part:
        compile_part(chosen)
        return
    torch.manual_seed(0)
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
    if chosen.check:
        sys.exit(0 if check() else 1)

    compilers = chosen.compilers if chosen.compilers is not None else (
        6 if chosen.device == "cuda" else 0)
    ahead = {}
    if "kernels" in chosen.groups and compilers:
        try:
            ahead["compile_seconds"] = compile_ahead(chosen, compilers)
        except Exception as error:
            ahead["compile_failed"] = told(error)
    report = Report(chosen.out, chosen.budget, about(chosen.device) | ahead)
    report.write()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    gc.freeze()  # the modules: release need not look at them each time
    for case in plan_of(chosen, report, Timer(chosen.device)):
        case()
        with contextlib.suppress(Exception):  # where a kernel broke the device all cases say so
            release(chosen.device)
    if chosen.device == "cuda":
        with contextlib.suppress(Exception):
            report.about["after"] = clocks()
    report.write()
    peerlib.answer(report.about | {"seconds": round(time.perf_counter() - BEGIN, 1),
                                   "records": len(report.cases)})


if __name__ == "__main__":
    main()
