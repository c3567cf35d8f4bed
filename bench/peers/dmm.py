"""One training step (ELBO, backward, clipped Adam) of the Deep Markov Model in PyTorch.

Krishnan, Shalit, Sontag, "Structured Inference Networks for Nonlinear State Space Models" (2017),
the ST-R posterior at the sizes of Pyro's example: only the posterior's recurrence loops, prior and
emission are batched over time, the KL is analytic. Variants:
  deferred  on the real rows alone; the two recurrences have hand-written backward passes, so that
            each weight gradient is one product after the loop (recurrences.py)
  rows      on the real rows alone, autograd throughout
  packed    padded, with a packed reverse RNN
  padded    padded throughout"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import recurrences
import training

SIZES = {"model": "dmm", "x": 88, "z": 100, "emission_width": 100, "transition_width": 200,
         "rnn_width": 600, "B": 20, "T": 129}
BETAS = (0.96, 0.999)


class Transition(nn.Module):
    """p(z_t | z_{t-1}): gated mean, softplus scale."""

    def __init__(self, Z, width):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(Z, width), nn.ReLU(), nn.Linear(width, Z), nn.Sigmoid())
        self.proposal = nn.Sequential(nn.Linear(Z, width), nn.ReLU(), nn.Linear(width, Z))
        self.scale, self.linear = nn.Linear(Z, Z), nn.Linear(Z, Z)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, z):
        gate, proposal = self.gate(z), self.proposal(z)
        return (torch.lerp(self.linear(z), proposal, gate),
                F.softplus(self.scale(F.relu(proposal))))


class Combiner(nn.Module):
    """q(z_t | z_{t-1}, x_{t:T}) from the reverse RNN's state; mean and scale in one product."""

    def __init__(self, Z, width):
        super().__init__()
        self.state, self.out = nn.Linear(Z, width), nn.Linear(width, 2 * Z)

    def forward(self, z, h):
        mean, scale = self.out(0.5 * (torch.tanh(self.state(z)) + h)).chunk(2, -1)
        return mean, F.softplus(scale)


class DeepMarkovModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        X, Z, E, W, H = (config[k] for k in ("x", "z", "emission_width", "transition_width",
                                             "rnn_width"))
        self.emitter = nn.Sequential(nn.Linear(Z, E), nn.ReLU(), nn.Linear(E, E), nn.ReLU(),
                                     nn.Linear(E, X))
        self.transition, self.combiner = Transition(Z, W), Combiner(Z, H)
        self.rnn = nn.RNN(X, H, nonlinearity="relu")
        self.z0, self.zq0 = nn.Parameter(torch.zeros(Z)), nn.Parameter(torch.zeros(Z))
        self.h0 = nn.Parameter(torch.zeros(1, 1, H))

    def terms(self, z, previous, mean, scale, x, beta):
        """-log p(x | z) + beta KL of each row (or of each step and sequence)."""
        prior_mean, prior_scale = self.transition(previous)
        ratio = (scale / prior_scale) ** 2
        kl = 0.5 * (ratio + ((mean - prior_mean) / prior_scale) ** 2 - 1 - ratio.log())
        nll = F.binary_cross_entropy_with_logits(self.emitter(z), x, reduction="none")
        return nll.sum(-1) + beta * kl.sum(-1)


def draws(model, noise, batch):
    r, Z = batch.rows, len(model.z0)
    return torch.randn(r.T, r.B, Z, device=batch.x.device) if noise is None else noise


def padded(model, batch, noise, beta, packed=False):
    (T, B), Z, lengths = batch.mask.shape, len(model.z0), batch.rows.lengths
    t = torch.arange(T, device=batch.x.device)[:, None]
    reversal = torch.where(t < lengths, lengths - 1 - t, t)[..., None]
    x = batch.x.gather(0, reversal.expand_as(batch.x))
    h0 = model.h0.expand(1, B, -1).contiguous()
    if packed:
        x = pack_padded_sequence(x, batch.rows.host_lengths)
        h, _ = pad_packed_sequence(model.rnn(x, h0)[0])
    else:
        h, _ = model.rnn(x, h0)
    h = h.gather(0, reversal.expand_as(h))
    noise, z, steps = draws(model, noise, batch), model.zq0.expand(B, Z), []
    for t in range(T):
        mean, scale = model.combiner(z, h[t])
        z = torch.addcmul(mean, scale, noise[t])
        steps.append((z, mean, scale))
    z, mean, scale = map(torch.stack, zip(*steps))
    previous = torch.cat([model.z0.expand(1, B, Z), z[:-1]])
    return (model.terms(z, previous, mean, scale, batch.x, beta) * batch.mask).sum()


def row_noise(model, noise, batch):
    if noise is not None:
        return batch.rows.pack(noise)
    return torch.randn(batch.rows.total, len(model.z0), device=batch.x.device)


def rows(model, batch, noise, beta):
    r, rnn = batch.rows, model.rnn
    pre = r.split(F.linear(batch.x_rows, rnn.weight_ih_l0, rnn.bias_ih_l0 + rnn.bias_hh_l0))
    h, states = model.h0[0, :0], [None] * r.T
    for t in reversed(range(r.T)):
        if len(h) < r.counts[t]:  # sequences whose last step this is
            h = torch.cat([h, model.h0[0].expand(r.counts[t] - len(h), -1)])
        h = states[t] = F.relu(torch.addmm(pre[t], h, rnn.weight_hh_l0.t()))
    z, steps = model.zq0.expand(r.B, -1), []
    for n, h, eps in zip(r.counts, states, r.split(row_noise(model, noise, batch))):
        mean, scale = model.combiner(z[:n], h)
        z = torch.addcmul(mean, scale, eps)
        steps.append((z, mean, scale))
    z, mean, scale = map(torch.cat, zip(*steps))
    previous = r.shifted(z, model.z0, r.previous)
    return model.terms(z, previous, mean, scale, batch.x_rows, beta).sum()


def deferred(model, batch, noise, beta):
    r, rnn, combiner = batch.rows, model.rnn, model.combiner
    pre = F.linear(batch.x_rows, rnn.weight_ih_l0, rnn.bias_ih_l0 + rnn.bias_hh_l0)
    h = recurrences.ReverseRnn.apply(pre, rnn.weight_hh_l0, model.h0, r)
    z, mean, scale = recurrences.Posterior.apply(
        h, row_noise(model, noise, batch), combiner.state.weight, combiner.state.bias,
        combiner.out.weight, combiner.out.bias, model.zq0, r)
    previous = r.shifted(z, model.z0, r.previous)
    return model.terms(z, previous, mean, scale, batch.x_rows, beta).sum()


VARIANTS = {"deferred": deferred, "rows": rows,
            "packed": lambda *a: padded(*a, packed=True), "padded": padded}

if __name__ == "__main__":
    training.main(__doc__, "dmm", DeepMarkovModel, SIZES, VARIANTS, BETAS)
