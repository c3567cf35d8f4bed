"""Deep Markov Model (Krishnan, Shalit, Sontag 2017; the sizes' names and modules of Pyro's example).

    g = sigmoid(gate(z)), h = proposal(z)
    p(z_t | z_{t-1}) = N((1 - g) (.) linear(z) + g (.) h, softplus(scale(relu(h)))^2)
    p(x_t | z_t)     = emission(emitter(z_t)),  z_0 = `z0` in the prior, `zq0` in the posterior
    ST-R   c = 1/2 (tanh(combiner.state(z_{t-1})) + h_r[t]);  ST-L with h_l
    ST-LR  c = 1/3 (tanh(...) + h_l[t] + h_r[t])
    ST-*   q(z_t | .) = N(m, s^2), (m, raw s) = combiner.out(c), s = softplus(raw)
    MF-R, MF-L  the same heads on h_r[t], h_l[t] alone
    MF-LR  the product of the Gaussians of combiner.out(h_r[t]) and combiner.out_forward(h_l[t]):
           1/v = 1/v_r + 1/v_l, mean = v (m_r/v_r + m_l/v_l)

h_r runs backward in time from each sequence's last step (`rnn`, start `h0`), h_l forward
(`rnn_forward`, start `h0_forward`). Writes ../dmm.json and ../dmm_variants.json."""

import torch
import torch.nn.functional as F
from torch import nn

import oracle
from oracle import gaussian_log_density, kl_divergence, softplus_std

SIZES = {"x": 5, "z": 3, "emission_width": 4, "transition_width": 4, "rnn_width": 6}


class Transition(nn.Module):
    def __init__(self, Z, width):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(Z, width), nn.ReLU(), nn.Linear(width, Z), nn.Sigmoid())
        self.proposal = nn.Sequential(nn.Linear(Z, width), nn.ReLU(), nn.Linear(width, Z))
        self.scale, self.linear = nn.Linear(Z, Z), nn.Linear(Z, Z)

    def forward(self, z):
        gate, proposal = self.gate(z), self.proposal(z)
        mean = (1 - gate) * self.linear(z) + gate * proposal
        return mean, F.softplus(self.scale(F.relu(proposal)))


class DeepMarkovModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        X, Z, E, W, H = (config[k] for k in SIZES)
        family, sides = config["posterior"].split("-")
        self.emitter = nn.Sequential(nn.Linear(Z, E), nn.ReLU(), nn.Linear(E, E), nn.ReLU(),
                                     nn.Linear(E, oracle.emission_width(config["emission"], X)))
        self.transition = Transition(Z, W)
        self.combiner = nn.Module()
        if family == "ST":
            self.combiner.state = nn.Linear(Z, H)
            self.zq0 = nn.Parameter(torch.zeros(Z))
        self.combiner.out = nn.Linear(H, 2 * Z)
        if config["posterior"] == "MF-LR":
            self.combiner.out_forward = nn.Linear(H, 2 * Z)
        self.z0 = nn.Parameter(torch.zeros(Z))
        if "R" in sides:
            self.rnn = oracle.recurrent(config["encoder"], X, H, config["missing"])
            self.h0 = nn.Parameter(torch.zeros(1, 1, H))
        if "L" in sides:
            self.rnn_forward = oracle.recurrent(config["encoder"], X, H, config["missing"])
            self.h0_forward = nn.Parameter(torch.zeros(1, 1, H))

    def posterior(self, previous, h_left, h_right):
        family, sides = self.config["posterior"].split("-")
        found = [h for h in (h_left, h_right) if h is not None]
        if family == "ST":
            total = torch.tanh(self.combiner.state(previous)) + sum(found)
            return softplus_std(self.combiner.out(total / (1 + len(found))))
        if sides != "LR":
            return softplus_std(self.combiner.out(found[0]))
        (m_r, s_r), (m_l, s_l) = (softplus_std(self.combiner.out(h_right)),
                                  softplus_std(self.combiner.out_forward(h_left)))
        v = 1 / (1 / s_r**2 + 1 / s_l**2)
        return v * (m_r / s_r**2 + m_l / s_l**2), torch.sqrt(v)

    def path(self, pair, x, observed, noise):
        """The bound's terms along one draw of one sequence: x [len][X], noise [len][Z]."""
        steps, kind = range(len(x)), self.config["encoder"]
        h_left = h_right = [None] * len(x)
        if hasattr(self, "rnn"):
            h_right = oracle.run_recurrent(kind, self.rnn, pair, self.h0[0], reversed(steps))
        if hasattr(self, "rnn_forward"):
            h_left = oracle.run_recurrent(kind, self.rnn_forward, pair, self.h0_forward[0], steps)
        prior_input, posterior_input = self.z0, getattr(self, "zq0", None)
        reconstruction, kl, log_ratio, zs = 0.0, 0.0, 0.0, []
        for t in steps:
            p = self.transition(prior_input)
            q = self.posterior(posterior_input, h_left[t], h_right[t])
            z = q[0] + q[1] * noise[t]
            kl = kl + kl_divergence(q, p)
            log_ratio = log_ratio + gaussian_log_density(z, *p) - gaussian_log_density(z, *q)
            reconstruction = reconstruction + oracle.log_likelihood(
                self.config["emission"], self.emitter(z), x[t], observed[t])
            prior_input = posterior_input = z
            zs.append(z)
        return {"reconstruction": reconstruction, "kl": kl, "log_ratio": log_ratio,
                "z": torch.stack(zs)}


def build(seed, posterior="ST-R", encoder="rnn_relu", emission="bernoulli", missing=False,
          particles=None):
    config = {"model": "dmm", **SIZES, "posterior": posterior, "encoder": encoder,
              "emission": emission, "missing": missing}
    model = DeepMarkovModel(config)
    oracle.randomise(model, seed, particles)
    batch = oracle.ragged_batch(seed + 1000, SIZES["x"], SIZES["z"], emission, missing, particles)
    return config, model, batch


def main():
    oracle.write("dmm.json", "dmm.py", [
        oracle.elbo_case("elbo", *build(1)),
        oracle.elbo_case("elbo_missing", *build(2, missing=True)),
        oracle.elbo_case("elbo_gaussian", *build(3, emission="gaussian"), optimizer=False),
        oracle.iwae_case("iwae", *build(4, particles=3)),
        oracle.iwae_case("iwae_missing", *build(5, missing=True, particles=3)),
    ])
    variants = [("ST-R", "gru"), ("ST-R", "lstm"), ("ST-L", "rnn_relu"), ("ST-L", "lstm"),
                ("ST-LR", "rnn_relu"), ("ST-LR", "gru"), ("MF-R", "rnn_relu"), ("MF-L", "rnn_relu"),
                ("MF-L", "gru"), ("MF-LR", "rnn_relu"), ("MF-LR", "lstm")]
    cases = [oracle.elbo_case(f"{posterior} {encoder}", *build(20 + i, posterior, encoder),
                              optimizer=False) for i, (posterior, encoder) in enumerate(variants)]
    cases.append(oracle.elbo_case("ST-LR lstm missing", *build(40, "ST-LR", "lstm", missing=True),
                                  optimizer=False))
    oracle.write("dmm_variants.json", "dmm.py", cases)


if __name__ == "__main__":
    main()
