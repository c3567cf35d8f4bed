"""Kalman filter, smoother and gradient of time-invariant models in float64: JAX and NumPy packages.

--task filter    filtered means and covariances, log-likelihood
       smoother  those and the smoothed ones, and (but simdkalman) what ties a step to the next
       gradient  the log-likelihood and its gradient for A, Q, C, R
--shape n,m,T,B  and --parameters shared, or own: a model a sequence. For --write-case, or where there
                 is no case. Loss: the log-likelihood of all sequences. Variants:
  dynamax           a scan over time, vmapped over the sequences
  dynamax_parallel  an associative scan; on one core whatever --threads says: it hung on two
  cuthbert          square roots of covariances, a scan over time
  statsmodels       its compiled loops, one sequence after the other, which keep a covariance that
                    has converged; no gradient
  simdkalman        NumPy over all sequences; no gradient, no models of sequences' own"""

import json
import os

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

import peerlib

NAMES = ("A", "Q", "C", "R", "m0", "P0")
TASKS = ("filter", "smoother", "gradient")


def system(n, m, seed):
    """A stable random system (spectral radius 0.95) with well conditioned covariances."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n))
    A *= 0.95 / np.abs(np.linalg.eigvals(A)).max()
    def covariance(k, scale):
        w = rng.standard_normal((k, k))
        return scale * (np.eye(k) + 0.1 * w @ w.T / k)
    C = rng.standard_normal((m, n)) / np.sqrt(n)
    return {"A": A, "Q": covariance(n, 0.1), "C": C, "R": covariance(m, 0.5), "m0": np.zeros(n),
            "P0": np.eye(n)}


def make(shape, own):
    """Models [1 or B][...] and observations [T][B][m] drawn from them."""
    n, m, T, B = shape
    systems = [system(n, m, seed) for seed in range(B if own else 1)]
    p = {name: np.stack([s[name] for s in systems]) for name in NAMES}
    rng = np.random.default_rng(1)
    root_Q, root_R = np.linalg.cholesky(p["Q"]), np.linalg.cholesky(p["R"])
    times = lambda matrix, x: np.einsum("bij,bj->bi", np.broadcast_to(matrix, (B, *matrix.shape[1:])), x)
    z, y = rng.standard_normal((B, n)), np.empty((T, B, m))
    for t in range(T):
        y[t] = times(p["C"], z) + times(root_R, rng.standard_normal((B, m)))
        z = times(p["A"], z) + times(root_Q, rng.standard_normal((B, n)))
    return p | {"y": y}


def norm(arrays):
    return float(np.sqrt(sum(np.square(np.asarray(a)).sum() for a in arrays)))


class Jax:
    """Models are vmapped over where each sequence has its own."""

    def __init__(self, variant, task, data):
        import jax
        jax.config.update("jax_enable_x64", True)
        import jax.numpy as jnp
        self.jax, self.task = jax, task
        one = getattr(self, variant.split("_")[0])(variant.endswith("_parallel"), task)
        self.p = {name: jnp.asarray(data[name]) for name in NAMES}
        self.y = jnp.asarray(data["y"].swapaxes(0, 1).copy())
        own = self.p["A"].shape[0] > 1
        if not own:
            self.p = {name: x[0] for name, x in self.p.items()}
        if self.y.shape[0] == 1:  # as one sequence is written
            every, self.y = one, self.y[0]
        else:
            every = jax.vmap(one, in_axes=(0 if own else None, 0))
        total = lambda chosen, rest, y: every(rest | chosen, y)[0].sum()
        chosen = {name: self.p[name] for name in "AQCR"}
        rest = {name: self.p[name] for name in ("m0", "P0")}
        gradient = jax.jit(jax.value_and_grad(total))
        run = jax.jit(every)
        self.call = {"gradient": lambda: gradient(chosen, rest, self.y)}.get(
            task, lambda: run(self.p, self.y))

    @staticmethod
    def dynamax(parallel, task):
        import dynamax.linear_gaussian_ssm as lgssm
        function = getattr(lgssm, ("parallel_" if parallel else "") + "lgssm_" +
                           ("smoother" if task == "smoother" else "filter"))

        def one(p, y):
            params = lgssm.inference.make_lgssm_params(p["m0"], p["P0"], p["A"], p["Q"], p["C"], p["R"])
            found = function(params, y)
            filtered = found.marginal_loglik, found.filtered_means, found.filtered_covariances
            if task != "smoother":
                return filtered
            return (*filtered, found.smoothed_means, found.smoothed_covariances,
                    found.smoothed_cross_covariances)
        return one

    @staticmethod
    def cuthbert(parallel, task):
        import jax.numpy as jnp
        from cuthbert import filtering, smoothing
        from cuthbert.gaussian import kalman

        def one(p, y):
            n, m = p["A"].shape[0], p["C"].shape[0]
            root_Q, root_R = jnp.linalg.cholesky(p["Q"]), jnp.linalg.cholesky(p["R"])

            def dynamics(inputs):  # the prior is that of the first observation: no transition to it
                first = inputs[0] == 0
                return jnp.where(first, jnp.eye(n), p["A"]), jnp.zeros(n), jnp.where(first, 0.0, root_Q)

            def emission(inputs):
                return p["C"], jnp.zeros(m), root_R, inputs[1]

            forward = kalman.build_filter(p["m0"], jnp.linalg.cholesky(p["P0"]), dynamics, emission)
            inputs = jnp.arange(y.shape[0]), y
            f = filtering.filter(forward, inputs, forward.init_prepare(), parallel=parallel)
            found = f.log_normalizing_constant[-1], f.mean, f.chol_cov
            if task != "smoother":
                return found
            s = smoothing.smoother(kalman.build_smoother(dynamics), f, inputs, parallel=parallel)
            return (*found, s.mean, s.chol_cov, s.gain)
        return one

    def step(self):
        return self.jax.block_until_ready(self.call())

    def loss(self):
        found = self.step()
        if self.task == "gradient":
            value, g = found
            turned = {name: (x + x.swapaxes(-1, -2)) / 2 if name in "QR" else x for name, x in g.items()}
            return {"loss": float(value), "gradient_norm": norm(turned.values())}
        mean, covariance = found[1:3] if self.task == "filter" else found[3:5]
        return {"loss": float(found[0].sum()), "moments_norm": norm(self.moments(mean, covariance))}

    @staticmethod
    def moments(mean, covariance):
        return mean, covariance


class Cuthbert(Jax):
    @staticmethod
    def moments(mean, root):
        """Of its results, which are roots and begin with the state before the first observation."""
        root = np.asarray(root)[..., 1:, :, :]
        return np.asarray(mean)[..., 1:, :], root @ root.swapaxes(-1, -2)


class Statsmodels:
    def __init__(self, variant, task, data):
        from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother
        self.task, self.each = task, []
        for b in range(data["y"].shape[1]):
            p = {name: data[name][min(b, data[name].shape[0] - 1)] for name in NAMES}
            m, n = p["C"].shape
            one = KalmanSmoother(k_endog=m, k_states=n, k_posdef=n, design=p["C"], obs_cov=p["R"],
                                 transition=p["A"], selection=np.eye(n), state_cov=p["Q"])
            one.initialize_known(p["m0"], p["P0"])
            one.bind(np.asfortranarray(data["y"][:, b].T))
            one.set_smoother_output(0, smoother_state=True, smoother_state_cov=True,
                                    smoother_state_autocov=True)
            self.each.append(one)

    def step(self):
        return [one.smooth() if self.task == "smoother" else one.filter() for one in self.each]

    def loss(self):
        found = self.step()
        kind = "smoothed" if self.task == "smoother" else "filtered"
        moments = [getattr(f, f"{kind}_state{cov}") for f in found for cov in ("", "_cov")]
        return {"loss": float(sum(f.llf_obs.sum() for f in found)), "moments_norm": norm(moments)}


class SimdKalman:
    def __init__(self, variant, task, data):
        import simdkalman
        if data["A"].shape[0] > 1:
            raise SystemExit('{"error": "simdkalman has no models of sequences\' own"}')
        p = {name: data[name][0] for name in NAMES}
        self.task, self.y = task, data["y"].swapaxes(0, 1).copy()
        self.start = p["m0"][:, None], p["P0"]
        self.filter = simdkalman.KalmanFilter(p["A"], p["Q"], p["C"], p["R"])

    def step(self):
        return self.filter.compute(self.y, 0, *self.start, smoothed=self.task == "smoother",
                                   filtered=True, observations=False, log_likelihood=True)

    def loss(self):
        found = self.step()
        states = (found.smoothed if self.task == "smoother" else found.filtered).states
        constant = 0.5 * self.y.size * np.log(2 * np.pi)  # which it leaves out
        return {"loss": float(np.sum(found.log_likelihood)) - constant,
                "moments_norm": norm([states.mean, states.cov])}


VARIANTS = {"dynamax": Jax, "dynamax_parallel": Jax, "cuthbert": Cuthbert, "statsmodels": Statsmodels,
            "simdkalman": SimdKalman}
PACKAGES = {"dynamax": ("jax", "dynamax"), "cuthbert": ("jax", "cuthbert"),
            "statsmodels": ("statsmodels", "numpy"), "simdkalman": ("simdkalman", "numpy")}


def shape_of(text):
    n, m, T, B = map(int, text.split(","))
    return n, m, T, B


def main():
    chosen = peerlib.arguments(
        VARIANTS, __doc__, task={"choices": TASKS, "default": "filter"},
        shape={"type": shape_of, "default": (4, 2, 1000, 1), "help": "n,m,T,B"},
        parameters={"choices": ("shared", "own"), "default": "shared"})
    package = chosen.variant.split("_")[0]
    if chosen.task == "gradient" and package in ("statsmodels", "simdkalman"):
        raise SystemExit(json.dumps({"error": f"{package} has no gradient"}))
    # JAX takes its threads from the cores that the process may use.
    threads = 1 if chosen.variant.endswith("_parallel") else chosen.threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if chosen.case:
        with safe_open(chosen.case, "np") as file:
            data = {name: file.get_tensor(name) for name in (*NAMES, "y")}
    else:
        data = make(chosen.shape, chosen.parameters == "own")
    if chosen.write_case:
        save_file(data, chosen.write_case)
        return
    work = VARIANTS[chosen.variant](chosen.variant, chosen.task, data)
    (T, B, m), n = data["y"].shape, data["A"].shape[1]
    about = {"program": package, "variant": chosen.variant, "task": chosen.task, "n": n, "m": m, "T": T,
             "B": B, "parameters": "own" if data["A"].shape[0] > 1 else "shared", "dtype": "float64",
             "threads": threads, "malloc": chosen.malloc,
             "versions": peerlib.versions(*PACKAGES[package])}
    work.step()  # compiles
    peerlib.drive(about, work.step, work.loss, chosen.serve)


if __name__ == "__main__":
    main()
