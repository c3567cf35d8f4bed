"""One training step (ELBO, backward, clipped Adam) of the Variational RNN in PyTorch.

Chung et al., "A Recurrent Latent Variable Model for Sequential Data" (2015), with a GRU, feature
nets phi_x of 2 layers and phi_z of 1, encoder, prior and decoder with one hidden layer. Variants:
  deferred  as rows, with a hand-written backward pass of the loop (recurrences.py)
  rows      on the real rows alone, only what depends on the state loops; autograd throughout
  batched   the same, padded
  looped    padded, every net called at every step, as the usual public implementations do"""

import torch
import torch.nn.functional as F
from torch import nn

import recurrences
import training

SIZES = {"model": "vrnn", "x": 88, "z": 64, "hidden": 256, "B": 20, "T": 129}
BETAS = (0.9, 0.999)


class VariationalRnn(nn.Module):
    def __init__(self, config):
        super().__init__()
        X, Z, H = (config[k] for k in ("x", "z", "hidden"))
        self.H, self.Z = H, Z
        self.phi_x = nn.Sequential(nn.Linear(X, H), nn.ReLU(), nn.Linear(H, H), nn.ReLU())
        self.phi_z = nn.Sequential(nn.Linear(Z, H), nn.ReLU())
        self.encoder, self.encoder_out = nn.Linear(2 * H, H), nn.Linear(H, 2 * Z)
        self.prior = nn.Sequential(nn.Linear(H, H), nn.ReLU(), nn.Linear(H, 2 * Z))
        self.decoder = nn.Sequential(nn.Linear(2 * H, H), nn.ReLU(), nn.Linear(H, X))
        self.gru = nn.GRUCell(2 * H, H)

    def before(self, x):
        """What the encoder and the GRU take from x."""
        phi_x = self.phi_x(x)
        return (F.linear(phi_x, self.encoder.weight[:, :self.H], self.encoder.bias),
                F.linear(phi_x, self.gru.weight_ih[:, :self.H], self.gru.bias_ih))

    def advance(self, h, encoder_x, gates_x, noise):
        out = self.encoder_out(F.relu(torch.addmm(encoder_x, h, self.encoder.weight[:, self.H:].t())))
        mean, scale = gaussian(out)
        phi_z = self.phi_z(torch.addcmul(mean, scale, noise))
        i = torch.addmm(gates_x, phi_z, self.gru.weight_ih[:, self.H:].t()).chunk(3, -1)
        g = F.linear(h, self.gru.weight_hh, self.gru.bias_hh).chunk(3, -1)
        r, u = torch.sigmoid(i[0] + g[0]), torch.sigmoid(i[1] + g[1])
        return torch.lerp(torch.tanh(torch.addcmul(i[2], r, g[2])), h, u), phi_z, out

    def after(self, h, phi_z, out, x, beta):
        return elbo_terms(gaussian(out), gaussian(self.prior(h)),
                          self.decoder(torch.cat([phi_z, h], -1)), x, beta)


def gaussian(out):
    mean, scale = out.chunk(2, -1)
    return mean, F.softplus(scale)


def elbo_terms(q, p, logits, x, beta):
    """-log p(x | z) + beta KL of each row (or of each step and sequence)."""
    (mean, scale), (prior_mean, prior_scale) = q, p
    ratio = (scale / prior_scale) ** 2
    kl = 0.5 * (ratio + ((mean - prior_mean) / prior_scale) ** 2 - 1 - ratio.log())
    nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    return nll.sum(-1) + beta * kl.sum(-1)


def looped(model, batch, noise, beta):
    T, B = batch.mask.shape
    h, total = batch.x.new_zeros(B, model.H), 0.0
    for t in range(T):
        phi_x = model.phi_x(batch.x[t])
        q = gaussian(model.encoder_out(F.relu(model.encoder(torch.cat([phi_x, h], -1)))))
        p = gaussian(model.prior(h))
        eps = torch.randn(B, model.Z, device=h.device) if noise is None else noise[t]
        phi_z = model.phi_z(q[0] + q[1] * eps)
        logits = model.decoder(torch.cat([phi_z, h], -1))
        total = total + (elbo_terms(q, p, logits, batch.x[t], beta) * batch.mask[t]).sum()
        h = model.gru(torch.cat([phi_x, phi_z], -1), h)
    return total


def batched(model, batch, noise, beta):
    T, B = batch.mask.shape
    encoder_x, gates_x = model.before(batch.x)
    noise = torch.randn(T, B, model.Z, device=batch.x.device) if noise is None else noise
    h, steps = batch.x.new_zeros(B, model.H), []
    for t in range(T):
        after, *rest = model.advance(h, encoder_x[t], gates_x[t], noise[t])
        steps.append((h, *rest))
        h = after
    terms = model.after(*map(torch.stack, zip(*steps)), batch.x, beta)
    return (terms * batch.mask).sum()


def row_noise(model, noise, batch):
    if noise is not None:
        return batch.rows.pack(noise)
    return torch.randn(batch.rows.total, model.Z, device=batch.x.device)


def rows(model, batch, noise, beta):
    r, (encoder_x, gates_x) = batch.rows, model.before(batch.x_rows)
    h, steps = batch.x.new_zeros(r.B, model.H), []
    for n, *inputs in zip(r.counts, r.split(encoder_x), r.split(gates_x),
                          r.split(row_noise(model, noise, batch))):
        after, *rest = model.advance(h[:n], *inputs)
        steps.append((h[:n], *rest))
        h = after
    return model.after(*map(torch.cat, zip(*steps)), batch.x_rows, beta).sum()


def deferred(model, batch, noise, beta):
    H, gru = model.H, model.gru
    h, phi_z, out = recurrences.VariationalGru.apply(
        *model.before(batch.x_rows), row_noise(model, noise, batch),
        model.encoder.weight[:, H:], model.encoder_out.weight, model.encoder_out.bias,
        model.phi_z[0].weight, model.phi_z[0].bias, gru.weight_ih[:, H:], gru.weight_hh,
        gru.bias_hh, batch.rows)
    return model.after(h, phi_z, out, batch.x_rows, beta).sum()


VARIANTS = {"deferred": deferred, "rows": rows, "batched": batched, "looped": looped}

if __name__ == "__main__":
    training.main(__doc__, "vrnn", VariationalRnn, SIZES, VARIANTS, BETAS)
