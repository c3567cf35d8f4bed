"""Shared by the training peers: batch, rows, case files, one clipped Adam step."""

import json
import os

import torch
from torch import nn

import peerlib

LEARNING_RATE, CLIP_NORM, BETA = 3e-4, 10.0, 0.5


class Rows:
    """Rows of a ragged batch (lengths longest first): step t owns counts[t] rows, then step t+1."""

    def __init__(self, lengths):
        T, B = int(lengths[0]), len(lengths)
        inside = torch.arange(T)[:, None] < lengths
        self.T, self.B, self.lengths, self.host_lengths = T, B, lengths, lengths.cpu()
        self.counts = inside.sum(1).tolist()
        self.padded = inside.flatten().nonzero()[:, 0]  # row -> t * B + b
        self.total = len(self.padded)
        number = torch.full((T + 1, B), self.total)     # total: a row past the end
        number[:T][inside] = torch.arange(self.total)
        before = torch.cat([torch.full((1, B), self.total), number[:T - 1]])
        self.previous, self.next = before[inside], number[1:][inside]
        self.last = (self.next == self.total).nonzero()[:, 0]  # a row of each sequence

    def pack(self, x):
        """[T][B][D] -> [rows][D]"""
        return x.flatten(0, 1)[self.padded]

    def shifted(self, values, start, index):
        """values of the step before (or after), `start` where there is none."""
        return torch.cat([values, start.reshape(1, -1)])[index]

    def split(self, values):
        """The rows of each step, as views."""
        return values.split(self.counts)


def ragged_batch(T, B, X, seed=0):
    """Binary sequences [T][B][X], longest first, lengths uniform in 20..T, the longest T."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(20, T + 1, (B,), generator=rng).sort(descending=True).values
    lengths[0] = T
    mask = (torch.arange(T)[:, None] < lengths).float()
    x = (torch.rand(T, B, X, generator=rng) < 0.1).float() * mask[..., None]
    return x, lengths


def write_case(path, model, config, batch, noise, betas):
    """`parameters.NAME`, `x` [T][B][X], `lengths` [B] int32, `noise` [T][B][Z]; the config as JSON
    in the metadata."""
    from safetensors.torch import save_file

    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    x, lengths = batch
    tensors = {f"parameters.{name}": p.detach().contiguous() for name, p in model.named_parameters()}
    tensors |= {"x": x, "lengths": lengths.int(), "noise": noise}
    save_file(tensors, path, {"config": json.dumps(config | {
        "beta": BETA, "learning_rate": LEARNING_RATE, "beta1": betas[0], "beta2": betas[1],
        "clip_norm": CLIP_NORM})})


def read_case(path):
    """(config, parameters, x, lengths, noise)"""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        config = json.loads(file.metadata()["config"])
    parameters = {name.removeprefix("parameters."): value for name, value in tensors.items()
                  if name.startswith("parameters.")}
    return config, parameters, tensors["x"], tensors["lengths"].long(), tensors["noise"]


class Batch:
    """Data of a step, padded and as rows."""

    def __init__(self, x, lengths):
        self.x, self.rows = x, Rows(lengths)
        self.mask = (torch.arange(len(x))[:, None] < lengths).to(x.dtype)
        self.x_rows = self.rows.pack(x)


def training_step(model, batch, loss, betas):
    """Fresh noise, forward, backward, clipping by the global norm, Adam."""
    adam = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, betas=betas, fused=True)

    def step():
        adam.zero_grad()
        (loss(model, batch, None, BETA) / batch.rows.total).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        adam.step()

    return step


def main(doc, name, kind, sizes, variants, betas, packages=("torch",), make_step=training_step):
    """A peer: kind(config) is its model, variants maps a name to loss(model, batch, noise, beta), a
    sum over the batch; noise None means a fresh draw, made as the variant likes. With another
    make_step the variants are its own, and there is no loss at the case's noise."""
    chosen = peerlib.arguments(variants, doc)
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    if chosen.case:
        config, parameters, x, lengths, noise = read_case(chosen.case)
        model = kind(config)
        model.load_state_dict(parameters)
    else:
        config, model = sizes, kind(sizes)
        x, lengths = ragged_batch(config["T"], config["B"], config["x"])
        noise = torch.randn(config["T"], config["B"], config["z"])
    if chosen.write_case:
        write_case(chosen.write_case, model, config, (x, lengths), noise, betas)
        return
    batch, loss = Batch(x, lengths), variants[chosen.variant]

    def at_case():
        if make_step is not training_step:
            return {"loss": None}
        model.zero_grad()
        value = loss(model, batch, noise, BETA) / batch.rows.total
        value.backward()
        norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in model.parameters()]))
        return {"loss": value.item(), "gradient_norm": norm.item()}

    about = {"program": f"torch.{name}", "variant": chosen.variant, **config,
             "rows": batch.rows.total, "dtype": "float32", "threads": chosen.threads,
             "malloc": chosen.malloc, "versions": peerlib.versions(*packages)}
    peerlib.drive(about, make_step(model, batch, loss, betas), at_case, chosen.serve)
