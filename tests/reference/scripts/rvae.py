"""Recurrent autoencoder with one latent a sequence (Fabius & van Amersfoort 2014), with GRUs.

    q(z | x) = N(mu, exp(logvar)), (mu, logvar) = posterior(a_len), a_t = encoder(x_t, a_{t-1}), a_0 = 0
    p(z)     = N(0, I)
    h_0 = tanh(start(z)),  h_t = decoder([x_{t-1}, z], h_{t-1}),  x_0 = 0
    p(x_t | h_t) = Bernoulli or Gaussian, from emission(h_t)

With missing data x_{t-1} is the pair (m x, 1 - m), (0, 0) before the first step; the decoder's V
(`missing_weight_ih`) stands beside the columns of weight_ih that read x. Writes ../rvae.json."""

import torch
from torch import nn

import oracle
from oracle import exp_logvar, kl_divergence

SIZES = {"x": 5, "z": 3, "encoder_width": 6, "decoder_width": 5, "emission_width": 4}


class RecurrentAutoencoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        X, Z, A, H, E = (config[k] for k in SIZES)
        self.encoder = oracle.recurrent("gru", X, A, config["missing"])
        self.posterior, self.start = nn.Linear(A, 2 * Z), nn.Linear(Z, H)
        self.decoder = nn.GRUCell(X + Z, H)
        if config["missing"]:
            self.decoder.missing_weight_ih = nn.Parameter(torch.zeros(3 * H, X))
        self.emission = nn.Sequential(
            nn.Linear(H, E), nn.ReLU(), nn.Linear(E, oracle.emission_width(config["emission"], X)))

    def decode(self, previous, missing, z, h):
        """One GRU step on [x_{t-1}, z], V (1 - m) added to the products with the input."""
        cell, inputs, weight = self.decoder, [previous, z], self.decoder.weight_ih
        if self.config["missing"]:
            inputs, weight = inputs + [missing], torch.cat([weight, cell.missing_weight_ih], 1)
        return torch.gru_cell(torch.cat(inputs)[None], h[None], weight, cell.weight_hh,
                              cell.bias_ih, cell.bias_hh)[0]

    def path(self, pair, x, observed, noise):
        """The bound's terms along one draw of one sequence: x [len][X], noise [Z]."""
        start = torch.zeros(1, self.config["encoder_width"])
        a = oracle.run_recurrent("gru", self.encoder, pair, start, range(len(x)))[-1]
        q = exp_logvar(self.posterior(a))
        z = q[0] + q[1] * noise
        kl = kl_divergence(q, (torch.zeros_like(z), torch.ones_like(z)))
        h, reconstruction = torch.tanh(self.start(z)), 0.0
        previous = missing = torch.zeros_like(x[0])
        for t in range(len(x)):
            h = self.decode(previous, missing, z, h)
            reconstruction = reconstruction + oracle.log_likelihood(
                self.config["emission"], self.emission(h), x[t], observed[t])
            previous, missing = pair[0][t], pair[1][t]
        return {"reconstruction": reconstruction, "kl": kl, "z": z}


def case(seed, name, emission="bernoulli", missing=False, optimizer=True):
    config = {"model": "rvae", **SIZES, "emission": emission, "missing": missing}
    model = RecurrentAutoencoder(config)
    oracle.randomise(model, seed)
    batch = oracle.ragged_batch(seed + 1000, SIZES["x"], SIZES["z"], emission, missing,
                                noise_steps=False)
    return oracle.elbo_case(name, config, model, batch, noise_steps=False, optimizer=optimizer)


def main():
    oracle.write("rvae.json", "rvae.py", [
        case(201, "elbo"),
        case(202, "elbo_gaussian", emission="gaussian"),
        case(203, "elbo_missing", missing=True, optimizer=False),
        case(204, "elbo_gaussian_missing", emission="gaussian", missing=True, optimizer=False),
    ])


if __name__ == "__main__":
    main()
