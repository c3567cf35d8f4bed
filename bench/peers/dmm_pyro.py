"""One training step of the Deep Markov Model in Pyro: SVI with Trace_ELBO and ClippedAdam.

One sample site a step with a sampled KL, as Pyro's documentation does; the networks are dmm.py's, the
reverse RNN is packed. Variants: unchecked (Pyro's and torch's argument validation off), checked.
`loss` is not comparable: Pyro draws its own noise and estimates the KL from the sample."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import ClippedAdam
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import dmm
import training


def encode(net, batch):
    lengths, (T, B) = batch.rows.lengths, batch.mask.shape
    t = torch.arange(T)[:, None]
    reversal = torch.where(t < lengths, lengths - 1 - t, t)[..., None]
    x = batch.x.gather(0, reversal.expand_as(batch.x))
    h0 = net.h0.expand(1, B, -1).contiguous()
    h, _ = pad_packed_sequence(net.rnn(pack_padded_sequence(x, lengths), h0)[0])
    return h.gather(0, reversal.expand_as(h))


def pyro_step(net, batch, checked, betas):
    """SVI's step over the whole batch, on fresh noise."""
    pyro.enable_validation(checked)
    torch.distributions.Distribution.set_default_validate_args(checked)
    (T, B), mask = batch.mask.shape, batch.mask.bool()

    def latent(t, mean, scale):
        with poutine.scale(scale=training.BETA):
            return pyro.sample(f"z_{t}", dist.Normal(mean, scale).mask(mask[t][:, None]).to_event(1))

    def model():
        pyro.module("dmm", net)
        z = net.z0.expand(B, -1)
        with pyro.plate("sequences", B):
            for t in pyro.markov(range(T)):
                z = latent(t, *net.transition(z))
                pyro.sample(f"x_{t}", dist.Bernoulli(logits=net.emitter(z))
                            .mask(mask[t][:, None]).to_event(1), obs=batch.x[t])

    def guide():
        pyro.module("dmm", net)
        h, z = encode(net, batch), net.zq0.expand(B, -1)
        with pyro.plate("sequences", B):
            for t in pyro.markov(range(T)):
                z = latent(t, *net.combiner(z, h[t]))

    adam = ClippedAdam({"lr": training.LEARNING_RATE, "betas": betas,
                        "clip_norm": training.CLIP_NORM, "lrd": 1.0, "weight_decay": 0.0})
    return SVI(model, guide, adam, Trace_ELBO()).step


VARIANTS = {"unchecked": False, "checked": True}

if __name__ == "__main__":
    training.main(__doc__, "dmm_pyro", dmm.DeepMarkovModel, dmm.SIZES, VARIANTS, dmm.BETAS,
                  ("torch", "pyro-ppl"), pyro_step)
