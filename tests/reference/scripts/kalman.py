"""Writes tests/reference/kalman.json: linear-Gaussian systems, their moments, likelihoods, gradients.

    python tests/reference/scripts/kalman.py      # numpy 2.4, jax 0.10, mpmath 1.4; CPU

The textbook recursions in JAX float64: all components of a step at once by the Cholesky factor of S,
Joseph's form, Rauch-Tung-Striebel backward, gradients by autodiff of the forward recursion. A missing
component is replaced by one that says nothing (a row of zeros in C, unit noise). Cases with
`float64_error` hold instead the values of the same recursions in 50-digit arithmetic (gradients by
Fisher's identity), and the error of the float64 ones against them. ../README.md has the fields."""

import json
import pathlib

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")
import jax.numpy as jnp
import mpmath
import numpy as np
from jax.scipy.linalg import cho_solve

mpmath.mp.dps = 50
COVARIANCES = ("Q", "R", "P0")
NAMES = ("A", "B", "b", "Q", "C", "D", "d", "R", "m0", "P0")


class Case:
    """A random system; arrays are [steps][sequences][...] with 1 where they are shared."""

    def __init__(self, name, n, m, T, B=1, U=0, lengths=None, diagonal_R=False, varying=False, seed=0):
        self.name, self.n, self.m, self.T, self.B, self.U = name, n, m, T, B, U
        self.lengths, self.diagonal_R = lengths or [T] * B, diagonal_R
        self.rng = rng = np.random.default_rng(seed)
        over = (T, B) if varying else (1, 1)
        normal = lambda *shape: np.round(rng.standard_normal(shape), 3)
        def covariance(k, floor, over):
            root = rng.standard_normal((*over, k, k)) / np.sqrt(k)
            return np.round(root @ np.swapaxes(root, -1, -2) + floor * np.eye(k), 3)
        self.arrays = {
            "A": np.round(0.8 * np.eye(n) + 0.35 / np.sqrt(n) * normal(*over, n, n), 3),
            "B": normal(*over, n, U), "b": normal(*over, n), "Q": covariance(n, 0.05, over),
            "C": normal(*over, m, n), "D": normal(*over, m, U), "d": normal(*over, m),
            "R": 0.2 + abs(normal(*over, m)) if diagonal_R else covariance(m, 0.2, over),
            "m0": normal(1, B, n), "P0": covariance(n, 0.3, (1, 1))}
        self.arrays["R"] = np.round(self.arrays["R"], 3) if diagonal_R else self.arrays["R"]
        self.y, self.u = 2 * normal(T, B, m), normal(T, B, U)
        self.mask, self.weights = np.ones((T, B, m)), None
        self.steps, self.sketch, self.stored_y, self.exact = list(range(T)), False, True, False

    def hide(self, share, steps=()):
        self.mask = (self.rng.random(self.mask.shape) >= share).astype(float)
        self.mask[list(steps)] = 0

    def simulate(self, root_R):
        """Observations drawn from the model."""
        a, normal = {k: v[0, 0] for k, v in self.arrays.items()}, self.rng.standard_normal
        z, y = a["m0"] + np.linalg.cholesky(a["P0"]) @ normal(self.n), np.empty_like(self.y)
        for t in range(self.T):
            y[t, 0] = a["C"] @ z + a["d"] + root_R @ normal(self.m)
            z = a["A"] @ z + a["b"] + np.linalg.cholesky(a["Q"]) @ normal(self.n)
        return y

    def weigh(self):
        """Weights of what kalman_backward differentiates besides the likelihood's plain sum."""
        T, B, n = self.T, self.B, self.n
        G = np.round(self.rng.standard_normal((T, B, n, n)), 3)
        self.weights = {"log_likelihood": np.round(1 + 0.3 * self.rng.standard_normal((T, B)), 3),
                        "mean": np.round(self.rng.standard_normal((T, B, n)), 3),
                        "covariance": (G + np.swapaxes(G, -1, -2)) / 2}


# The recursions in JAX, of one sequence.

def of_sequence(case, arrays, b):
    """The arrays of each of a sequence's steps."""
    T = case.lengths[b]
    out = {}
    for name, x in arrays.items():
        x = x[:, min(b, x.shape[1] - 1)]
        out[name] = x[0] if name in ("m0", "P0") else jnp.broadcast_to(x, (case.T, *x.shape[1:]))[:T]
    if case.diagonal_R:
        out["R"] = jax.vmap(jnp.diag)(out["R"])
    return out


def run_filter(p, y, mask, u):
    n = p["m0"].shape[0]

    def step(state, x):
        t, q, y, mask, u = x
        m, P = state
        predicted = t > 0
        m = jnp.where(predicted, q["A"] @ m + q["B"] @ u + q["b"], m)
        P = jnp.where(predicted, q["A"] @ P @ q["A"].T + q["Q"], P)
        C = mask[:, None] * q["C"]
        R = mask[:, None] * q["R"] * mask + jnp.diag(1 - mask)
        v = mask * (y - q["D"] @ u - q["d"]) - C @ m
        S = C @ P @ C.T + R
        L = jnp.linalg.cholesky(S)
        K = cho_solve((L, True), C @ P).T
        rest = jnp.eye(n) - K @ C
        after = m + K @ v, rest @ P @ rest.T + K @ R @ K.T
        log_likelihood = (-0.5 * (v @ cho_solve((L, True), v) + mask.sum() * jnp.log(2 * jnp.pi))
                          - jnp.log(jnp.diag(L)).sum())
        return after, (*after, m, P, log_likelihood)

    steps = {k: v for k, v in p.items() if k not in ("m0", "P0")}
    out = jax.lax.scan(step, (p["m0"], p["P0"]), (jnp.arange(y.shape[0]), steps, y, mask, u))[1]
    return dict(zip(("mean", "covariance", "predicted_mean", "predicted_covariance",
                     "log_likelihood"), out))


def run_smoother(p, f):
    def step(state, x):
        m_later, P_later = state
        m, P, m_predicted, P_predicted, A = x
        G = cho_solve((jnp.linalg.cholesky(P_predicted), True), A @ P).T
        now = m + G @ (m_later - m_predicted), P + G @ (P_later - P_predicted) @ G.T
        return now, (*now, P_later @ G.T)

    last = f["mean"][-1], f["covariance"][-1]
    mean, covariance, lag = jax.lax.scan(
        step, last, (f["mean"][:-1], f["covariance"][:-1], f["predicted_mean"][1:],
                     f["predicted_covariance"][1:], p["A"][1:]), reverse=True)[1]
    return {"smoothed_mean": jnp.concatenate([mean, last[0][None]]),
            "smoothed_covariance": jnp.concatenate([covariance, last[1][None]]),
            "lag_one": jnp.concatenate([jnp.zeros((1, *lag.shape[1:])), lag])}


def data_of(case, y, b):
    T = case.lengths[b]
    return y[:T, b], jnp.asarray(case.mask)[:T, b], jnp.asarray(case.u)[:T, b]


def padded(case, parts):
    """[T][B] from the sequences' own steps; zeros in padding."""
    out = {}
    for name in parts[0]:
        out[name] = np.zeros((case.T, case.B, *parts[0][name].shape[1:]))
        for b, part in enumerate(parts):
            out[name][:case.lengths[b], b] = part[name]
    return out


def moments(case):
    arrays, parts = {k: jnp.asarray(v) for k, v in case.arrays.items()}, []
    for b in range(case.B):
        p = of_sequence(case, arrays, b)
        f = jax.jit(run_filter)(p, *data_of(case, jnp.asarray(case.y), b))
        parts.append(f | jax.jit(run_smoother)(p, f))
    return padded(case, parts)


def gradients(case, weights=None):
    def objective(arrays, y):
        total = 0.0
        for b in range(case.B):
            f = run_filter(of_sequence(case, arrays, b), *data_of(case, y, b))
            if weights is None:
                total += f["log_likelihood"].sum()
            else:
                total += sum((w[:case.lengths[b], b] * f[k]).sum() for k, w in weights.items())
        return total

    arrays = {k: jnp.asarray(v) for k, v in case.arrays.items()}
    of_arrays, of_y = jax.jit(jax.grad(objective, (0, 1)))(arrays, jnp.asarray(case.y))
    out = {k: np.asarray(v) for k, v in of_arrays.items()} | {"y": np.asarray(of_y)}
    for name in COVARIANCES:  # over symmetric matrices
        if not (name == "R" and case.diagonal_R):
            out[name] = (out[name] + np.swapaxes(out[name], -1, -2)) / 2
    return out


# The same in 50 digits: one sequence, shared arrays, all observed, no controls.

def exactly(x):
    return np.vectorize(mpmath.mpf, otypes=[object])(np.asarray(x, float))


def inverse(S):
    """By Gauss and Jordan, and log |S| for a positive definite S."""
    k, log_determinant = len(S), mpmath.mpf(0)
    M = np.concatenate([S, exactly(np.eye(k))], axis=1)
    for i in range(k):
        log_determinant += mpmath.log(M[i, i])
        M[i] = M[i] / M[i, i]
        for j in range(k):
            if j != i:
                M[j] = M[j] - M[j, i] * M[i]
    return M[:, k:], log_determinant


def exact(case):
    """Moments and gradients as `moments` and `gradients` give them."""
    assert case.B == 1 and case.U == 0 and case.mask.all()
    p = {k: exactly(v[0, 0]) for k, v in case.arrays.items()}
    A, b, Q, C, d, R = (p[k] for k in ("A", "b", "Q", "C", "d", "R"))
    y, T, eye = exactly(case.y[:, 0]), case.T, exactly(np.eye(case.n))
    log_2pi = mpmath.log(2 * mpmath.pi)
    out, m, P = [], p["m0"], p["P0"]
    for t in range(T):
        if t > 0:
            m, P = A @ m + b, A @ P @ A.T + Q
        f = {"predicted_mean": m, "predicted_covariance": P}
        Si, log_determinant = inverse(C @ P @ C.T + R)
        v = y[t] - d - C @ m
        K = P @ C.T @ Si
        f["log_likelihood"] = -(v @ Si @ v + log_determinant + case.m * log_2pi) / 2
        m, P = m + K @ v, (eye - K @ C) @ P
        P = (P + P.T) / 2
        out.append(f | {"mean": m, "covariance": P})
    ms, Ps = m, P
    out[-1] |= {"smoothed_mean": ms, "smoothed_covariance": Ps}
    out[0]["lag_one"] = 0 * Ps
    for t in range(T - 2, -1, -1):
        f, later = out[t], out[t + 1]
        G = f["covariance"] @ A.T @ inverse(later["predicted_covariance"])[0]
        later["lag_one"] = Ps @ G.T
        ms = f["mean"] + G @ (ms - later["predicted_mean"])
        Ps = f["covariance"] + G @ (Ps - later["predicted_covariance"]) @ G.T
        f |= {"smoothed_mean": ms, "smoothed_covariance": Ps}
    # Fisher's identity: the expected gradient of log p(z, y) given y.
    Qi, Ri, Pi = (inverse(p[k])[0] for k in ("Q", "R", "P0"))
    g = {k: 0 * p[k] for k in NAMES} | {"y": 0 * y}
    outer = np.outer
    for t, f in enumerate(out):
        z, P = f["smoothed_mean"], f["smoothed_covariance"]
        e = y[t] - d - C @ z
        g["C"] += Ri @ (outer(e, z) - C @ P)
        g["d"] += Ri @ e
        g["y"][t] = -(Ri @ e)
        g["R"] += (Ri @ (outer(e, e) + C @ P @ C.T) @ Ri - Ri) / 2
        if t == 0:
            s = z - p["m0"]
            g["m0"] = Pi @ s
            g["P0"] = (Pi @ (P + outer(s, s)) @ Pi - Pi) / 2
        else:
            q, lag = z - A @ before - b, f["lag_one"]
            g["A"] += Qi @ (outer(q, before) + lag - A @ P_before)
            g["b"] += Qi @ q
            S = outer(q, q) + P - lag @ A.T - A @ lag.T + A @ P_before @ A.T
            g["Q"] += (Qi @ S @ Qi - Qi) / 2
        before, P_before = z, P
    found = {k: np.array([[f[k]] for f in out]).astype(float) for k in out[0]}
    total = sum(f["log_likelihood"] for f in out)
    shaped = {k: g[k].astype(float).reshape(case.arrays[k].shape) for k in NAMES}
    return found, float(total), shaped | {"y": g["y"].astype(float)[:, None]}


def worst(actual, expected):
    """Of the largest entry; of moments at each step."""
    error, scale = abs(actual - expected), abs(expected)
    if actual.ndim > 2:
        axes = tuple(range(1, actual.ndim))
        error, scale = error.max(axes), scale.max(axes)
        return (error / np.where(scale > 0, scale, 1)).max()
    return (error / np.maximum(scale, 1)).max()  # a step's log-likelihood


# The file.

def flat(x):
    return np.asarray(x, float).ravel().tolist()


def stored(case, name, x):
    """What stands in the file for a matrix: itself, or its product with two fixed columns."""
    if case.sketch and name in ("A", "Q", "C", "R", "P0", "covariance", "predicted_covariance",
                                "smoothed_covariance", "lag_one"):
        i, k = np.meshgrid(np.arange(x.shape[-1]), np.arange(2), indexing="ij")
        x = x @ (((5 * i + 3 * k) % 11 - 5) / 8)
    return flat(x)


def written(case):
    out = {"name": case.name, "T": case.T, "B": case.B, "n": case.n, "m": case.m, "U": case.U,
           "lengths": case.lengths, "diagonal_R": case.diagonal_R, "sketch": case.sketch,
           "steps": case.steps}
    out["arrays"] = {
        k: {"values": flat(v), "step": v[0].size if v.shape[0] > 1 else 0,
            "sequence": v[0, 0].size if v.shape[1] > 1 else 0}
        for k, v in case.arrays.items() if v.size > 0}
    out["y"] = flat(case.y * case.mask) if case.stored_y else None
    out["u"], out["mask"] = flat(case.u), flat(case.mask) if not case.mask.all() else None
    found, grads = moments(case), gradients(case)
    total = found["log_likelihood"].sum()
    if case.exact:
        approximate, approximate_total, approximate_grads = found, total, grads
        found, total, grads = exact(case)
        out["float64_error"] = {k: worst(approximate[k], found[k]) for k in found} | {
            "total": abs(approximate_total - total) / abs(total)} | {
            "grad_" + k: abs(approximate_grads[k] - g).max() / abs(g).max()
            for k, g in grads.items() if g.size > 0}
        print(case.name, {k: f"{v:.1e}" for k, v in out["float64_error"].items()})
    out["total"] = float(total)
    out["rows"] = {k: stored(case, k, v[case.steps]) for k, v in found.items()}
    store = lambda grads: {k: stored(case, k, g[case.steps] if k == "y" else g)
                           for k, g in grads.items() if g.size > 0}
    out["gradients"] = store(grads)
    if case.weights:
        out["weights"] = {k: flat(w) for k, w in case.weights.items()}
        out["weighted_gradients"] = store(gradients(case, case.weights))
    return out


def walk(T):
    """Exactly the same in every language: a random walk in noise, in 64ths."""
    x, position, y = 1, 0, []
    def draw():
        nonlocal x
        x = (1103515245 * x + 12345) % 2**31
        return (x >> 16) % 65 - 32
    for _ in range(T):
        position += draw()
        y.append((position + 4 * draw()) / 64)
    return np.array(y)


def cases():
    yield Case("n1_m1", 1, 1, 12, B=2, seed=1)
    controls = Case("n2_m1_controls", 2, 1, 15, B=2, U=2, seed=2)
    yield controls
    masked = Case("n4_m2_masked_ragged", 4, 2, 9, B=4, lengths=[9, 6, 3, 1], diagonal_R=True, seed=3)
    masked.hide(0.35)
    masked.weigh()
    yield masked
    more = Case("n3_m5_masked_full_R", 3, 5, 8, U=1, seed=4)
    more.hide(0.3)
    more.weigh()
    yield more
    gaps = Case("n2_m2_gaps", 2, 2, 14, seed=5)
    gaps.hide(0.0, steps=[0, 4, 5, 6, 7, 13])
    yield gaps
    varying = Case("n8_m4_varying", 8, 4, 6, U=1, varying=True, seed=6)
    varying.steps = [0, 3, 5]
    yield varying
    wide = Case("n32_m16", 32, 16, 40, seed=7)
    wide.steps, wide.sketch = [0, 1, 20, 39], True
    yield wide
    for n, m, variances in ((4, 3, [1, 1e-6, 1e-12]), (2, 4, [1, 1e-4, 1e-8, 1e-12])):
        precise = Case(f"n{n}_m{m}_R_from_1e-12", n, m, 25, seed=8)
        turn = np.linalg.qr(precise.rng.standard_normal((m, m)))[0]
        R = turn @ np.diag(variances) @ turn.T
        precise.arrays["R"], precise.exact = ((R + R.T) / 2)[None, None], True
        precise.y, precise.steps = precise.simulate(turn * np.sqrt(variances)), [0, 1, 2, 12, 23, 24]
        yield precise
    slow = Case("n2_m1_nearly_unstable", 2, 1, 20_000, seed=9)
    give = lambda **given: slow.arrays.update(
        {k: np.array(v, float)[None, None] for k, v in given.items()})
    give(A=[[0.99999, 0.1], [0, 0.97]], b=[0, 0.001], Q=[[0.08, 0.001], [0.001, 0.002]],
         C=[[1, 0.5]], d=[0.25], R=[[1.4]], m0=[0.5, -0.25], P0=[[4, 0.5], [0.5, 1]])
    slow.y, slow.stored_y, slow.exact = walk(slow.T)[:, None, None], False, True
    slow.steps = [0, 1, 100, 10_000, 19_998, 19_999]
    yield slow


def main():
    reference = {"jax": jax.__version__, "mpmath": mpmath.__version__,
                 "cases": [written(case) for case in cases()]}
    path = pathlib.Path(__file__).parents[1] / "kalman.json"
    path.write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
