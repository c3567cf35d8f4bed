"""One layer, forward and backward, in PyTorch: GRU, LSTM and the sampling stage.

GRU and LSTM: T = 129, B = 20, D = 88, H = 600; gradients of sum(output * g) for the input, the initial
state and all weights. Variants:
  gru           torch.nn.GRU
  gru_deferred  the same with a hand-written backward pass (recurrences.py)
  lstm          torch.nn.LSTM (oneDNN's fused layer)
  sampling      mu, logvar -> sample + KL to N(0, I) + Bernoulli log-likelihood with the sample as logit,
                1e7 elements, compiled but for the draw, which is faster outside"""

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import peerlib
import recurrences

T, B, D, H = 129, 20, 88, 600
ELEMENTS = 10_000_000


def gru_deferred(layer, x, h0):
    gates_x = F.linear(x, layer.weight_ih_l0, layer.bias_ih_l0)
    return recurrences.Gru.apply(gates_x, h0[0], layer.weight_hh_l0, layer.bias_hh_l0)


class Recurrent:
    """Case file: `parameters.NAME`, `x` [T][B][D], `h0` (and `c0`) [1][B][H], `g` [T][B][H]."""

    def __init__(self, variant, case):
        kind = variant.split("_")[0]
        self.deferred, self.settings = variant == "gru_deferred", {"T": T, "B": B, "D": D, "H": H}
        self.layer = {"gru": nn.GRU, "lstm": nn.LSTM}[kind](D, H)
        if case:
            with safe_open(case, "pt") as file:
                self.data = {name: file.get_tensor(name) for name in file.keys()}
            self.layer.load_state_dict({name.removeprefix("parameters."): self.data.pop(name)
                                        for name in list(self.data) if name.startswith("parameters.")})
        else:
            states = ("h0", "c0") if kind == "lstm" else ("h0",)
            self.data = {"x": torch.randn(T, B, D), "g": torch.randn(T, B, H),
                         **{name: torch.randn(1, B, H) for name in states}}
        self.g = self.data.pop("g")
        self.wanted = [v.requires_grad_() for v in self.data.values()] + list(self.layer.parameters())

    def write(self, path):
        parameters = {f"parameters.{k}": v for k, v in self.layer.state_dict().items()}
        save_file({k: v.detach() for k, v in self.data.items()} | {"g": self.g} | parameters, path)

    def output(self):
        x, h0, c0 = (self.data.get(name) for name in ("x", "h0", "c0"))
        if self.deferred:
            return gru_deferred(self.layer, x, h0)
        return self.layer(x, h0 if c0 is None else (h0, c0))[0]

    def step(self):
        torch.autograd.grad(self.output(), self.wanted, self.g)

    def loss(self):
        value = (self.output() * self.g).sum()
        gradients = torch.autograd.grad(value, self.wanted)
        norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
        return {"loss": value.item(), "gradient_norm": norm.item()}


class Sampling:
    def __init__(self):
        self.settings = {"elements": ELEMENTS}
        self.mu, self.logvar = (torch.randn(ELEMENTS, requires_grad=True) for _ in range(2))
        self.x = (torch.rand(ELEMENTS) < 0.3).float()
        self.eps, self.stage = torch.empty(ELEMENTS), torch.compile(self.plain)

    @staticmethod
    def plain(mu, logvar, x, eps):
        z = mu + torch.exp(0.5 * logvar) * eps
        kl = 0.5 * (mu * mu + logvar.exp() - 1.0 - logvar).sum()
        return kl + F.binary_cross_entropy_with_logits(z, x, reduction="sum")

    def step(self):
        torch.autograd.grad(self.stage(self.mu, self.logvar, self.x, self.eps.normal_()),
                            [self.mu, self.logvar])

    @staticmethod
    def loss():
        return {"loss": None}


VARIANTS = ("gru_deferred", "gru", "lstm", "sampling")


def main():
    chosen = peerlib.arguments(VARIANTS, __doc__)
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    layer = Sampling() if chosen.variant == "sampling" else Recurrent(chosen.variant, chosen.case)
    if chosen.write_case:
        layer.write(chosen.write_case)
        return
    layer.step()  # compiles
    about = {"program": "torch.layers", "variant": chosen.variant, **layer.settings,
             "dtype": "float32", "threads": chosen.threads, "malloc": chosen.malloc,
             "versions": peerlib.versions("torch")}
    peerlib.drive(about, layer.step, layer.loss, chosen.serve)


if __name__ == "__main__":
    main()
