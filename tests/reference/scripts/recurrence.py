"""Writes recurrence.json: torch.nn.GRU and LSTM in float64, padded with lengths, both directions.

Usage: recurrence.py FILE. The loss is sum(h * grad_h) + sum(h_final * grad_h_final) [+ the same of
c_final]; sequences are those of pack_padded_sequence. Row-major flat lists, [T][B] before widths."""

import json
import sys

import torch

T, B, D, H = 6, 4, 3, 5
LENGTHS = [4, 6, 1, 4]


def case(kind, reverse):
    torch.manual_seed(3 if kind == "gru" else 4)
    layer = getattr(torch.nn, kind.upper())(D, H, bidirectional=True).double()
    normal = lambda *shape: torch.randn(*shape, dtype=torch.float64)
    x, states = normal(T, B, D).requires_grad_(), [normal(2, B, H).requires_grad_()]
    if kind == "lstm":
        states.append(normal(2, B, H).requires_grad_())
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    output, final = layer(packed, tuple(states) if kind == "lstm" else states[0])
    output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, total_length=T)
    way = int(reverse)
    h = output[..., way * H : way * H + H]
    finals = [f[way] for f in (final if kind == "lstm" else [final])]
    grads = [normal(T, B, H)] + [normal(B, H) for _ in finals]
    names = [f"{name}_l0{'_reverse' if reverse else ''}"
             for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    weights = [getattr(layer, name) for name in names]
    loss = sum((value * grad).sum() for value, grad in zip([h, *finals], grads))
    found = torch.autograd.grad(loss, [x, *states, *weights])
    flat = lambda tensor: tensor.detach().reshape(-1).tolist()
    result = {"kind": kind, "reverse": reverse, "x": flat(x), "h": flat(h), "grad_h": flat(grads[0])}
    for name, state, value, grad_out, grad in zip("hc", states, finals, grads[1:], found[1:]):
        result |= {name + "0": flat(state[way]), name + "_final": flat(value),
                   f"grad_{name}_final": flat(grad_out), f"grad_{name}0": flat(grad[way])}
    result["grad_x"] = flat(found[0])
    for name, weight, grad in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights,
                                  found[1 + len(states) :]):
        result |= {name: flat(weight), "grad_" + name: flat(grad)}
    return result


cases = [case(kind, reverse) for kind in ("gru", "lstm") for reverse in (False, True)]
with open(sys.argv[1], "w") as file:
    json.dump({"torch": torch.__version__, "T": T, "B": B, "D": D, "H": H, "lengths": LENGTHS,
               "cases": cases}, file)
    file.write("\n")
