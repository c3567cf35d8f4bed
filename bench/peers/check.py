"""Every variant of the training peers against tests/reference in float64: objective and gradients.

Usage: check.py; exit status 1 where one differs by more than 1e-10 of the largest entry."""

import json
import pathlib
import sys

import torch

import dmm
import training
import vrnn

REFERENCE = pathlib.Path(__file__).resolve().parents[2] / "tests" / "reference"


def worst(variant, kind, case):
    """The largest error of a gradient or of the objective, relative to its largest entry."""
    model = kind(case["config"])
    model.load_state_dict({k: torch.tensor(v) for k, v in case["parameters"].items()})
    batch = training.Batch(torch.tensor(case["x"]), torch.tensor(case["lengths"]))
    value = variant(model, batch, torch.tensor(case["noise"]), case["beta"]) / batch.rows.total
    value.backward()
    pairs = [(value, case["objective"])]
    pairs += [(p.grad, case["gradients"][name]) for name, p in model.named_parameters()]
    errors = [((actual - torch.tensor(expected)).abs().max() / torch.tensor(expected).abs().max())
              for actual, expected in pairs]
    return torch.stack(errors).detach().max().item()  # NaN if one is


def main():
    torch.set_default_dtype(torch.float64)
    good = True
    for name, module, kind in (("dmm", dmm, dmm.DeepMarkovModel), ("vrnn", vrnn, vrnn.VariationalRnn)):
        case = next(c for c in json.loads((REFERENCE / f"{name}.json").read_text())["cases"]
                    if c["name"] == "elbo")
        for variant, loss in module.VARIANTS.items():
            error = worst(loss, kind, case)
            good = good and error <= 1e-10
            print(f"{name} {variant}: {error:.1e}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
