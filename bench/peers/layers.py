"""One layer, forward and backward, in PyTorch: GRU, LSTM and the sampling stage.

GRU and LSTM of --shape T,B,D,H: gradients of sum(output * g) for the input, the start values and all
weights. Sampling, of one size, 1e7 elements: mu, logvar -> sample + KL to N(0, I) - Bernoulli
log-likelihood with the sample as logit; gradients for mu and logvar. Variants:
  gru           torch.nn.GRU
  gru_deferred  the same with a hand-written backward pass (recurrences.py)
  lstm          torch.nn.LSTM (oneDNN's fused layer)
  sampling      compiled but for the draw, which is faster outside"""

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import peerlib
import recurrences

SHAPE = (129, 20, 88, 600)
SAMPLING = (100, 1000, 100)  # T, B, D


def read(case):
    """Copies: what stands in the mapped file is slower to read."""
    with safe_open(case, "pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}


def gradient_norm(gradients):
    """The sums of squares in double: 1e7 of them."""
    norms = [torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradients]
    return torch.linalg.vector_norm(torch.stack(norms)).item()


def gru_deferred(layer, x, h0):
    gates_x = F.linear(x, layer.weight_ih_l0, layer.bias_ih_l0)
    return recurrences.Gru.apply(gates_x, h0[0], layer.weight_hh_l0, layer.bias_hh_l0)


class Recurrent:
    """Case file: `parameters.NAME`, `x` [T][B][D], `h0` (and `c0`) [1][B][H], `g` [T][B][H]."""

    def __init__(self, variant, shape, case):
        self.kind = variant.split("_")[0]
        self.deferred, self.data = variant == "gru_deferred", read(case) if case else {}
        if case:
            shape = (*self.data["x"].shape, self.data["g"].shape[2])
        T, B, D, H = shape
        self.settings = {"T": T, "B": B, "D": D, "H": H}
        self.layer = {"gru": nn.GRU, "lstm": nn.LSTM}[self.kind](D, H)
        if case:
            self.layer.load_state_dict({name.removeprefix("parameters."): self.data.pop(name)
                                        for name in list(self.data) if name.startswith("parameters.")})
        else:
            states = ("h0", "c0") if self.kind == "lstm" else ("h0",)
            self.data = {"x": torch.randn(T, B, D), "g": torch.randn(T, B, H),
                         **{name: torch.randn(1, B, H) for name in states}}
        self.g = self.data.pop("g")
        self.wanted = [v.requires_grad_() for v in self.data.values()] + list(self.layer.parameters())

    def case(self):
        parameters = {f"parameters.{k}": v for k, v in self.layer.state_dict().items()}
        return {k: v.detach() for k, v in self.data.items()} | {"g": self.g} | parameters

    def output(self):
        x, h0, c0 = (self.data.get(name) for name in ("x", "h0", "c0"))
        if self.deferred:
            return gru_deferred(self.layer, x, h0)
        return self.layer(x, h0 if c0 is None else (h0, c0))[0]

    def step(self):
        torch.autograd.grad(self.output(), self.wanted, self.g)

    def loss(self):
        value = (self.output() * self.g).sum()
        return {"loss": value.item(),
                "gradient_norm": gradient_norm(torch.autograd.grad(value, self.wanted))}


class Sampling:
    """Case file: `mu`, `logvar`, `x` and, for `loss` alone, `eps`, all [T][B][D]. Here they are flat."""

    kind = "sampling"

    def __init__(self, case):
        if case:
            data = read(case)
            self.shape = tuple(data["mu"].shape)
        else:
            self.shape = SAMPLING
            data = {name: torch.randn(self.shape) for name in ("mu", "logvar", "eps")}
            data["x"] = (torch.rand(self.shape) < 0.3).float()
        data = {name: value.flatten() for name, value in data.items()}
        self.mu, self.logvar = (data[name].requires_grad_() for name in ("mu", "logvar"))
        self.x, self.given = data["x"], data["eps"]
        self.eps, self.compiled = torch.empty_like(self.x), torch.compile(self.stage)
        self.settings = dict(zip("TBD", self.shape))

    def case(self):
        return {name: value.detach().reshape(self.shape) for name, value in
                (("mu", self.mu), ("logvar", self.logvar), ("x", self.x), ("eps", self.given))}

    @staticmethod
    def stage(mu, logvar, x, eps):
        z = mu + torch.exp(0.5 * logvar) * eps
        kl = 0.5 * (mu * mu + logvar.exp() - 1.0 - logvar).sum()
        return kl + F.binary_cross_entropy_with_logits(z, x, reduction="sum")

    def step(self):
        torch.autograd.grad(self.compiled(self.mu, self.logvar, self.x, self.eps.normal_()),
                            [self.mu, self.logvar])

    def loss(self):
        value = self.compiled(self.mu, self.logvar, self.x, self.given)
        gradients = torch.autograd.grad(value, [self.mu, self.logvar])
        return {"loss": value.item(), "gradient_norm": gradient_norm(gradients)}


VARIANTS = ("gru_deferred", "gru", "lstm", "sampling")


def shape_of(text):
    T, B, D, H = map(int, text.split(","))
    return T, B, D, H


def main():
    chosen = peerlib.arguments(VARIANTS, __doc__, shape={
        "type": shape_of, "default": SHAPE, "help": "T,B,D,H of a GRU or LSTM without a case"})
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    layer = (Sampling(chosen.case) if chosen.variant == "sampling" else
             Recurrent(chosen.variant, chosen.shape, chosen.case))
    if chosen.write_case:
        save_file(layer.case(), chosen.write_case, {"layer": layer.kind})
        return
    layer.step()  # compiles
    about = {"program": "torch.layers", "variant": chosen.variant, **layer.settings,
             "dtype": "float32", "threads": chosen.threads, "malloc": chosen.malloc,
             "versions": peerlib.versions("torch")}
    peerlib.drive(about, layer.step, layer.loss, chosen.serve)


if __name__ == "__main__":
    main()
