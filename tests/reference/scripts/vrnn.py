"""Variational RNN (Chung et al. 2015) with a GRU, every net called at every step.

    p(z_t | h_{t-1})      = N(m, s^2), (m, raw s) = prior(h_{t-1}), s = softplus(raw)
    q(z_t | x_t, h_{t-1}) = N(m, s^2), (m, raw s) = encoder_out(relu(encoder([phi_x(x_t), h_{t-1}])))
    p(x_t | z_t, h_{t-1}) = emission(decoder([phi_z(z_t), h_{t-1}]))
    h_t = gru([phi_x(x_t), phi_z(z_t)], h_{t-1}),  h_0 = 0

Writes ../vrnn.json."""

import torch
import torch.nn.functional as F
from torch import nn

import oracle
from oracle import PairLinear, gaussian_log_density, kl_divergence, softplus_std

SIZES = {"x": 5, "z": 3, "hidden": 6}


class VariationalRnn(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        X, Z, H = (config[k] for k in SIZES)
        self.phi_x = nn.Sequential(PairLinear(X, H, config["missing"]), nn.ReLU(), nn.Linear(H, H),
                                   nn.ReLU())
        self.phi_z = nn.Sequential(nn.Linear(Z, H), nn.ReLU())
        self.encoder, self.encoder_out = nn.Linear(2 * H, H), nn.Linear(H, 2 * Z)
        self.prior = nn.Sequential(nn.Linear(H, H), nn.ReLU(), nn.Linear(H, 2 * Z))
        self.decoder = nn.Sequential(
            nn.Linear(2 * H, H), nn.ReLU(),
            nn.Linear(H, oracle.emission_width(config["emission"], X)))
        self.gru = nn.GRUCell(2 * H, H)

    def path(self, pair, x, observed, noise):
        """The bound's terms along one draw of one sequence: x [len][X], noise [len][Z]."""
        h = torch.zeros(self.config["hidden"])
        reconstruction, kl, log_ratio, zs = 0.0, 0.0, 0.0, []
        for t in range(len(x)):
            phi_x = self.phi_x((pair[0][t], pair[1][t]))
            p = softplus_std(self.prior(h))
            q = softplus_std(self.encoder_out(F.relu(self.encoder(torch.cat([phi_x, h])))))
            z = q[0] + q[1] * noise[t]
            phi_z = self.phi_z(z)
            kl = kl + kl_divergence(q, p)
            log_ratio = log_ratio + gaussian_log_density(z, *p) - gaussian_log_density(z, *q)
            reconstruction = reconstruction + oracle.log_likelihood(
                self.config["emission"], self.decoder(torch.cat([phi_z, h])), x[t], observed[t])
            h = self.gru(torch.cat([phi_x, phi_z])[None], h[None])[0]
            zs.append(z)
        return {"reconstruction": reconstruction, "kl": kl, "log_ratio": log_ratio,
                "z": torch.stack(zs)}


def build(seed, emission="bernoulli", missing=False, particles=None):
    config = {"model": "vrnn", **SIZES, "emission": emission, "missing": missing}
    model = VariationalRnn(config)
    oracle.randomise(model, seed, particles)
    return config, model, oracle.ragged_batch(seed + 1000, SIZES["x"], SIZES["z"], emission,
                                              missing, particles)


def main():
    oracle.write("vrnn.json", "vrnn.py", [
        oracle.elbo_case("elbo", *build(101)),
        oracle.elbo_case("elbo_missing", *build(102, missing=True)),
        oracle.elbo_case("elbo_gaussian", *build(103, "gaussian"), optimizer=False),
        oracle.iwae_case("iwae", *build(104, particles=3)),
        oracle.iwae_case("iwae_missing", *build(105, missing=True, particles=3)),
    ])


if __name__ == "__main__":
    main()
