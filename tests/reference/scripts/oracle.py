"""Shared by the model oracles: a ragged batch, parameters, one training computation, its file.

Every model is evaluated one sequence at a time, over its own steps only: no padding, no masks of
steps, no batching, so that nothing of that kind can be wrong on both sides of a comparison.
Everything is float64. See ../README.md for the fields of the files."""

import json
import math
import pathlib

import torch
import torch.nn.functional as F
from torch import nn

torch.set_default_dtype(torch.float64)

LENGTHS = [7, 5, 5, 1]  # longest first, with a tie and a single step
BETA = 0.5
OPTIMIZER = {"learning_rate": 0.01, "beta1": 0.96, "beta2": 0.999, "epsilon": 1e-3,
             "weight_decay": 0.01, "clip_norm": 0.3}
UPDATES = (1, 3)
CELLS = {"rnn_relu": torch.rnn_relu_cell, "gru": torch.gru_cell, "lstm": torch.lstm_cell}


# --- densities -----------------------------------------------------------------------------

def kl_divergence(q, p):
    """KL(N(mean, std^2) || N(...)) of two pairs (mean, std), summed over the last axis."""
    (mean, std), (prior_mean, prior_std) = q, p
    return (torch.log(prior_std / std)
            + (std**2 + (mean - prior_mean) ** 2) / (2 * prior_std**2) - 0.5).sum(-1)


def gaussian_log_density(z, mean, std):
    return (-0.5 * math.log(2 * math.pi) - torch.log(std) - 0.5 * ((z - mean) / std) ** 2).sum(-1)


def softplus_std(raw):
    """(mean, std) of a head's output: mean, then a raw scale whose softplus is the std."""
    mean, scale = raw.chunk(2, -1)
    return mean, F.softplus(scale)


def exp_logvar(raw):
    """(mean, std) of a head's output: mean, then the log variance."""
    mean, logvar = raw.chunk(2, -1)
    return mean, torch.exp(0.5 * logvar)


def emission_width(kind, X):
    return {"bernoulli": X, "gaussian": 2 * X}[kind]


def log_likelihood(kind, raw, x, observed):
    """log p(x | raw) summed over the observed entries."""
    if kind == "bernoulli":
        terms = x * F.logsigmoid(raw) + (1 - x) * F.logsigmoid(-raw)
    else:
        mean, std = exp_logvar(raw)
        terms = torch.distributions.Normal(mean, std).log_prob(x)
    return torch.where(observed, terms, 0.0).sum(-1)


# --- networks that read the pair (m x, 1 - m) ----------------------------------------------

class PairLinear(nn.Linear):
    """W (m x) + V (1 - m) + b; V is `missing_weight`, absent where nothing is missing."""

    def __init__(self, inputs, outputs, missing):
        super().__init__(inputs, outputs)
        if missing:
            self.missing_weight = nn.Parameter(torch.zeros_like(self.weight))

    def forward(self, pair):
        out = super().forward(pair[0])
        return out + pair[1] @ self.missing_weight.T if hasattr(self, "missing_weight") else out


def recurrent(kind, inputs, hidden, missing):
    """torch's own module of one layer, for its parameters' names; V beside weight_ih_l0."""
    module = (nn.RNN(inputs, hidden, nonlinearity="relu") if kind == "rnn_relu"
              else {"gru": nn.GRU, "lstm": nn.LSTM}[kind](inputs, hidden))
    if missing:
        module.missing_weight_ih_l0 = nn.Parameter(torch.zeros_like(module.weight_ih_l0))
    return module


def run_recurrent(kind, module, pair, start, order):
    """h_t of every step, visiting the steps in `order` from the state `start` (LSTM: c0 = 0)."""
    inputs, weight = pair[0], module.weight_ih_l0
    if hasattr(module, "missing_weight_ih_l0"):
        inputs = torch.cat(pair, -1)
        weight = torch.cat([weight, module.missing_weight_ih_l0], -1)
    rest = (module.weight_hh_l0, module.bias_ih_l0, module.bias_hh_l0)
    state = (start, torch.zeros_like(start)) if kind == "lstm" else start
    states = [None] * len(inputs)
    for t in order:
        if kind == "lstm":
            state = torch.lstm_cell(inputs[t:t + 1], state, weight, *rest)
            states[t] = state[0][0]
        else:
            state = CELLS[kind](inputs[t:t + 1], state, weight, *rest)
            states[t] = state[0]
    return torch.stack(states)


# --- the batch, the parameters, the computation ---------------------------------------------

def ragged_batch(seed, X, Z, emission="bernoulli", missing=False, particles=None, noise_steps=True):
    """Padded time-major arrays. x is 0 at missing entries and in padding; the noise of padding is
    random, for it must not be read."""
    generator = torch.Generator().manual_seed(seed)
    T, B = LENGTHS[0], len(LENGTHS)
    inside = (torch.arange(T)[:, None] < torch.tensor(LENGTHS))[..., None]
    x = torch.randn(T, B, X, generator=generator)
    if emission == "bernoulli":
        x = (x > 0.3).double()
    mask = torch.ones(T, B, X, dtype=torch.bool)
    if missing:
        mask = torch.rand(T, B, X, generator=generator) < 0.6
        mask[2, 0], mask[0, 1] = False, False  # a step with nothing, and a first step
    mask = mask & inside
    shape = ((T,) if noise_steps else ()) + (B,) + ((particles,) if particles else ()) + (Z,)
    noise = torch.randn(*shape, generator=generator)
    return {"lengths": torch.tensor(LENGTHS), "x": x * mask, "mask": mask, "noise": noise}


def randomise(model, seed, particles=None):
    """Random values for every parameter, vectors too, so that none drops out of a test; smaller
    ones for particles, lest one particle have all the weight."""
    size = 0.4 if particles else 1.0
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            vector = parameter.numel() == parameter.shape[-1]
            scale = size * (0.5 if vector else 0.8 / math.sqrt(parameter.shape[-1]))
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


def sequences(batch, noise_steps=True):
    """(pair, x, observed, noise) of each sequence, of its own steps only."""
    for b, length in enumerate(LENGTHS):
        x, observed = batch["x"][:length, b], batch["mask"][:length, b]
        noise = batch["noise"][:length, b] if noise_steps else batch["noise"][b]
        yield (x, 1.0 - observed.double()), x, observed, noise


def bounds(model, batch, noise_steps=True):
    """Per sequence: reconstruction, KL; and z, padded with zeros."""
    reconstruction, kl, z = [], [], torch.zeros_like(batch["noise"])
    for b, (pair, x, observed, noise) in enumerate(sequences(batch, noise_steps)):
        path = model.path(pair, x, observed, noise)
        reconstruction.append(path["reconstruction"])
        kl.append(path["kl"])
        if noise_steps:
            z[:LENGTHS[b], b] = path["z"].detach()
        else:
            z[b] = path["z"].detach()
    return torch.stack(reconstruction), torch.stack(kl), z


def log_weights(model, batch):
    """[B][K]: log p(x, z) - log q(z | x) of each particle's path."""
    return torch.stack([
        torch.stack([(path := model.path(pair, x, observed, noise[:, k]))["reconstruction"]
                     + path["log_ratio"] for k in range(noise.shape[1])])
        for pair, x, observed, noise in sequences(batch)])


def values(tensor):
    return tensor.tolist()


def state(model, get=lambda p: p.detach()):
    return {name: values(get(p)) for name, p in model.named_parameters()}


def train(model, objective):
    """Parameters after each of UPDATES AdamW updates on the same batch and noise."""
    o = OPTIMIZER
    adam = torch.optim.AdamW(model.parameters(), lr=o["learning_rate"], eps=o["epsilon"],
                             betas=(o["beta1"], o["beta2"]), weight_decay=o["weight_decay"],
                             foreach=False)
    result = {**o, "objective": [], "gradient_norm": [], "parameters_after": {}}
    for update in range(1, max(UPDATES) + 1):
        adam.zero_grad()
        value = objective()
        value.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), o["clip_norm"], foreach=False)
        assert norm > o["clip_norm"], f"clipping does not act: norm {norm}"
        adam.step()
        result["objective"].append(value.item())
        result["gradient_norm"].append(norm.item())
        if update in UPDATES:
            result["parameters_after"][str(update)] = state(model)
    return result


def elbo_case(name, config, model, batch, noise_steps=True, optimizer=True):
    """One case of a file: everything a training step of the ELBO with beta computes."""
    def objective():
        reconstruction, kl, _ = bounds(model, batch, noise_steps)
        return -(reconstruction - BETA * kl).sum() / sum(LENGTHS)

    reconstruction, kl, z = bounds(model, batch, noise_steps)
    case = head(name, config, model, batch)
    case |= {"z": values(z), "reconstruction": values(reconstruction), "kl": values(kl),
             "elbo": values(reconstruction - kl), "beta": BETA}
    case |= differentiate(model, objective)
    if optimizer:
        case["optimizer"] = train(model, objective)
    return case


def iwae_case(name, config, model, batch):
    def bound():
        weights = log_weights(model, batch)
        return torch.logsumexp(weights, 1) - math.log(weights.shape[1]), weights

    value, weights = bound()
    case = head(name, config, model, batch)
    case |= {"log_weights": values(weights), "bound": values(value)}
    return case | differentiate(model, lambda: -bound()[0].sum() / sum(LENGTHS))


def head(name, config, model, batch):
    case = {"name": name, "config": config, "lengths": values(batch["lengths"]),
            "x": values(batch["x"])}
    if config["missing"]:
        case["mask"] = values(batch["mask"].int())
    return case | {"noise": values(batch["noise"]), "parameters": state(model)}


def differentiate(model, objective):
    model.zero_grad()
    value = objective()
    value.backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().max() > 0, f"{name} has no gradient"
    return {"objective": value.item(), "gradients": state(model, lambda p: p.grad)}


def write(name, script, cases):
    """One line an array, the shortest digits that read back to the same float64."""
    def text(value, indent):
        if isinstance(value, dict):
            inside = ",\n".join(f"{' ' * (indent + 1)}{json.dumps(key)}: {text(item, indent + 1)}"
                                for key, item in value.items())
            return "{\n" + inside + "\n" + " " * indent + "}"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[" + ", ".join(text(item, indent) for item in value) + "]"
        return json.dumps(value, separators=(",", ":"), allow_nan=False)

    path = pathlib.Path(__file__).resolve().parents[1] / name
    path.write_text(text({"made_by": f"scripts/{script}", "torch": torch.__version__.split("+")[0],
                          "cases": cases}, 0) + "\n")
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB, {len(cases)} cases")
