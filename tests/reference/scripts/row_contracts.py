"""Writes tests/reference/row_contracts.json: PyTorch's float64 values and gradients of what the
row-wise contracts compute, and of a few steps of its optimisers.

    python tests/reference/scripts/row_contracts.py"""

import json
import pathlib

import torch
import torch.nn.functional as F
from torch.distributions import Categorical, Normal, Poisson, kl_divergence

torch.set_default_dtype(torch.float64)
torch.manual_seed(7)
ROWS, D = 3, 5


def randn(*shape):
    return torch.randn(*shape).requires_grad_()


def case(inputs, outputs):
    """Inputs, outputs, weights of the outputs in a scalar loss, and the loss's gradients."""
    weights = {name: torch.randn_like(value) for name, value in outputs.items()}
    loss = sum((weights[name] * value).sum() for name, value in outputs.items())
    wanted = [name for name, value in inputs.items() if value.requires_grad]
    grads = torch.autograd.grad(loss, [inputs[name] for name in wanted], retain_graph=True)
    flat = lambda values: {name: v.detach().flatten().tolist() for name, v in values.items()}
    return {"inputs": flat(inputs), "outputs": flat(outputs), "weights": flat(weights),
            "gradients": flat(dict(zip(wanted, grads)))}


def activations():
    functions = {"relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
                 "softplus": lambda x: F.softplus(x, threshold=1e9), "exp": torch.exp, "elu": F.elu,
                 "leaky_relu": F.leaky_relu}
    result = {}
    for name, function in functions.items():
        x = (3 * torch.randn(ROWS, D)).requires_grad_()
        result[name] = case({"x": x}, {"y": function(x)})
    return result


def heads():
    result = {}
    raw = lambda: (6 * torch.randn(ROWS, D)).requires_grad_()
    x = raw()
    result["exp"] = case({"raw": x}, {"logvar": x.clamp(-15, 15)})
    x = raw()
    result["softplus_var"] = case({"raw": x}, {"logvar": F.softplus(x, threshold=1e9).log()})
    x = raw()
    result["softplus_std"] = case(
        {"raw": x}, {"logvar": 2 * (F.softplus(x + 0.5, threshold=1e9) + 0.1).log()})
    return result


def gaussians():
    mu_q, logvar_q, mu_p, logvar_p = (randn(ROWS, D) for _ in range(4))
    q = Normal(mu_q, (0.5 * logvar_q).exp())
    p = Normal(mu_p, (0.5 * logvar_p).exp())
    inputs = {"mu_q": mu_q, "logvar_q": logvar_q, "mu_p": mu_p, "logvar_p": logvar_p}
    result = {"kl": case(inputs, {"kl_sum": kl_divergence(q, p).sum(1)})}
    eps = torch.randn(ROWS, D)
    z = mu_q + (0.5 * logvar_q).exp() * eps
    result["sample_kl"] = case(
        {**inputs, "eps": eps}, {"z": z, "kl_sum": kl_divergence(q, p).sum(1)})
    x, mask = randn(ROWS, D), (torch.rand(ROWS, D) < 0.6).double()
    result["log_density"] = case(
        {"x": x, "mask": mask, "mu": mu_p, "logvar": logvar_p},
        {"log_density": (mask * p.log_prob(x)).sum(1)})
    return result


def likelihoods():
    mask = (torch.rand(ROWS, D) < 0.6).double()
    result = {}
    logits, x = randn(ROWS, D), (torch.rand(ROWS, D) < 0.5).double()
    log_p = -F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    result["bernoulli"] = case({"x": x, "mask": mask, "logits": logits},
                               {"log_likelihood": (mask * log_p).sum(1)})
    logits, chosen = randn(ROWS, D), torch.tensor([2, 0, 4])
    result["categorical"] = case(
        {"x": F.one_hot(chosen, D).double(), "logits": logits},
        {"log_likelihood": Categorical(logits=logits).log_prob(chosen)})
    logits, x = randn(ROWS, D), torch.randint(0, 9, (ROWS, D)).double()
    result["poisson"] = case(
        {"x": x, "mask": mask, "logits": logits},
        {"log_likelihood": (mask * Poisson(logits.exp()).log_prob(x)).sum(1)})
    return result


def normalizations():
    x = (2 * torch.randn(ROWS, D) + 1).requires_grad_()
    result = {"layer": case({"x": x}, {"y": F.layer_norm(x, (D,), eps=1e-3)})}
    x = (2 * torch.randn(ROWS, D) + 1).requires_grad_()
    result["rms"] = case({"x": x}, {"y": F.rms_norm(x, (D,), eps=1e-3)})
    return result


def categories():
    """Two groups of D classes; the draw is one-hot of given classes, straight through to p."""
    logits, classes = randn(ROWS, 2 * D), torch.tensor([[2, 0], [4, 4], [1, 3]])
    p = torch.softmax(logits.view(ROWS, 2, D), -1)
    result = {"softmax": case({"logits": logits}, {"p": p})}
    straight = F.one_hot(classes, D).double() + p - p.detach()
    result["straight_through"] = case({"logits": logits}, {"y": straight})
    q, p = randn(ROWS, 2 * D), randn(ROWS, 2 * D)
    kl = kl_divergence(Categorical(logits=q.view(ROWS, 2, D)), Categorical(logits=p.view(ROWS, 2, D)))
    result["kl"] = case({"logits_q": q, "logits_p": p}, {"kl_sum": kl.sum(1)})
    return result


def bounds():
    x = (2 * torch.randn(ROWS, D)).requires_grad_()
    return case({"x": x}, {"y": x.clamp(-0.7, 1.2)})


def cells():
    """After their products; LSTMCell's weights are the identity, so that it sees a itself. GRUCell
    makes q of h alone, so gradients by q are the equations'; gru_module is the cell itself."""
    a, q, h = randn(ROWS, 3 * D), randn(ROWS, 3 * D), randn(ROWS, D)
    r, z = (torch.sigmoid(a[:, i * D:(i + 1) * D] + q[:, i * D:(i + 1) * D]) for i in (0, 1))
    n = torch.tanh(a[:, 2 * D:] + r * q[:, 2 * D:])
    result = {"gru": case({"a": a, "q": q, "h": h}, {"h_next": (1 - z) * n + z * h})}
    cell = torch.nn.LSTMCell(4 * D, D, bias=False)
    with torch.no_grad():
        cell.weight_ih.copy_(torch.eye(4 * D))
        cell.weight_hh.zero_()
    a, c = randn(ROWS, 4 * D), randn(ROWS, D)
    h_next, c_next = cell(a, (torch.zeros(ROWS, D), c))
    result["lstm"] = case({"a": a, "c": c}, {"h_next": h_next, "c_next": c_next})
    return result


def gru_module():
    """torch.nn.GRUCell itself: x, h and its parameters; the products are the test's."""
    cell = torch.nn.GRUCell(2, D)
    x, h = torch.randn(ROWS, 2), torch.randn(ROWS, D)
    flat = lambda value: value.detach().flatten().tolist()
    a, q = x @ cell.weight_ih.T + cell.bias_ih, h @ cell.weight_hh.T + cell.bias_hh
    return {"a": flat(a), "q": flat(q), "h": flat(h), "h_next": flat(cell(x, h))}


def optimisers():
    result = []
    for options in ({"decoupled": True, "weight_decay": 0.1, "clip_norm": 1.0},
                    {"decoupled": False, "weight_decay": 0.2, "clip_norm": 0.0},
                    {"decoupled": True, "weight_decay": 0.0, "clip_norm": 100.0},
                    {"decoupled": True, "weight_decay": 0.05, "clip_value": 0.5}):
        p = torch.nn.Parameter(torch.randn(19))
        kind = torch.optim.AdamW if options["decoupled"] else torch.optim.Adam
        optimiser = kind([p], lr=3e-2, betas=(0.8, 0.95), eps=1e-6,
                         weight_decay=options["weight_decay"])
        run = {"options": options, "start": p.tolist(),
               "gradients": [], "parameters": [], "norms": []}
        for _ in range(4):
            p.grad = 2 * torch.randn(19)
            run["gradients"].append(p.grad.tolist())
            run["norms"].append(p.grad.norm().item())
            if options.get("clip_norm"):
                torch.nn.utils.clip_grad_norm_([p], options["clip_norm"])
            if options.get("clip_value"):
                torch.nn.utils.clip_grad_value_([p], options["clip_value"])
            optimiser.step()
            run["parameters"].append(p.tolist())
        result.append(run)
    return result


def main():
    reference = {"rows": ROWS, "D": D, "activations": activations(), "heads": heads(),
                 "gaussians": gaussians(), "likelihoods": likelihoods(), "cells": cells(),
                 "gru_module": gru_module(), "optimisers": optimisers(),
                 "normalizations": normalizations(), "categories": categories(),
                 "bounds": bounds()}
    path = pathlib.Path(__file__).parents[1] / "row_contracts.json"
    path.write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
