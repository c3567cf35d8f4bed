"""Recurrences over ragged rows with hand-written backward passes.

Autograd makes one product and one sum a step for every weight of a loop. Here backward keeps the
gradients of each step's pre-activations, and one product over all rows gives a weight's gradient.
Rows, counts, previous and next are those of training.Rows."""

import torch

threshold_backward = torch.ops.aten.threshold_backward


class ReverseRnn(torch.autograd.Function):
    """h_t = relu(pre_t + U h_{t+1}), h0 after a sequence's last step: rows [R][H]."""

    @staticmethod
    def forward(ctx, pre, weight, h0, rows):
        h, start, transposed = torch.empty_like(pre), h0[0], weight.t()
        state = start[:0]
        for n, pre_t, h_t in reversed(list(zip(rows.counts, rows.split(pre), rows.split(h)))):
            if len(state) < n:
                state = torch.cat([state, start.expand(n - len(state), -1)])
            state = torch.addmm(pre_t, state, transposed, out=h_t).relu_()
        ctx.save_for_backward(h, weight, h0)
        ctx.rows = rows
        return h

    @staticmethod
    def backward(ctx, grad_h):
        h, weight, h0 = ctx.saved_tensors
        rows, grad_pre, before = ctx.rows, torch.empty_like(h), None
        for n, h_t, g_t, out in zip(rows.counts, rows.split(h), rows.split(grad_h),
                                    rows.split(grad_pre)):
            if before is None:
                threshold_backward(g_t, h_t, 0, grad_input=out)
            else:
                torch.addmm(g_t, before[:n], weight, out=out)
                threshold_backward(out, h_t, 0, grad_input=out)
            before = out
        grad_h0 = (grad_pre[rows.last].sum(0) @ weight).reshape(h0.shape)
        return grad_pre, grad_pre.t() @ rows.shifted(h, h0, rows.next), grad_h0, None


class Posterior(torch.autograd.Function):
    """c_t = 1/2 (tanh(W z_{t-1} + b) + h_t); (mean, raw) = V c_t + v; z_t = mean + softplus(raw) eps.

    Rows of z, mean and softplus(raw)."""

    @staticmethod
    def forward(ctx, h, noise, W, b, V, v, start, rows):
        total, Z = noise.shape
        activated, combined = torch.empty_like(h), torch.empty_like(h)
        out, z, scale = h.new_empty(total, 2 * Z), torch.empty_like(noise), torch.empty_like(noise)
        state = start.expand(rows.B, Z)
        for n, half_t, a_t, c_t, mean_t, raw_t, out_t, scale_t, z_t, eps_t in zip(
                rows.counts, rows.split(0.5 * h), *map(rows.split, (
                    activated, combined, out[:, :Z], out[:, Z:], out, scale, z, noise))):
            torch.addmm(b, state[:n], W.t(), out=a_t).tanh_()
            torch.add(half_t, a_t, alpha=0.5, out=c_t)
            torch.addmm(v, c_t, V.t(), out=out_t)
            torch.ops.aten.softplus.out(raw_t, out=scale_t)
            state = torch.addcmul(mean_t, scale_t, eps_t, out=z_t)
        mean = out[:, :Z].contiguous()
        ctx.save_for_backward(noise, W, V, start, activated, combined, z, scale)
        ctx.rows = rows
        return z, mean, scale

    @staticmethod
    def backward(ctx, grad_z, grad_mean, grad_scale):
        noise, W, V, start, activated, combined, z, scale = ctx.saved_tensors
        rows, Z = ctx.rows, noise.shape[1]
        slope = -torch.expm1(-scale)  # sigmoid(raw)
        scaled_noise = slope * noise
        grad_out = torch.cat([grad_mean + grad_z, grad_scale * slope + grad_z * scaled_noise], 1)
        tanh_slope = 0.5 * (1 - activated * activated)
        grad_c, grad_a, carry = torch.empty_like(combined), torch.empty_like(combined), None
        for mean_t, raw_t, out_t, noise_t, slope_t, c_t, a_t in reversed(list(zip(
                *map(rows.split, (grad_out[:, :Z], grad_out[:, Z:], grad_out, scaled_noise,
                                  tanh_slope, grad_c, grad_a))))):
            if carry is not None:
                n = len(carry)
                mean_t[:n].add_(carry)
                raw_t[:n].addcmul_(carry, noise_t[:n])
            torch.mm(out_t, V, out=c_t)
            torch.mul(c_t, slope_t, out=a_t)
            carry = torch.mm(a_t, W)
        return (0.5 * grad_c, None, grad_a.t() @ rows.shifted(z, start, rows.previous),
                grad_a.sum(0), grad_out.t() @ combined, grad_out.sum(0), carry.sum(0), None)


class VariationalGru(torch.autograd.Function):
    """The VRNN's loop, h_0 = 0:

        e = relu(encoder_x_t + E h);     (mean, raw) = O e + o;   z = mean + softplus(raw) eps
        p = relu(P z + b);               i = gates_x_t + W p;     g = U h + c
        r, u = sigmoid(i + g);           n = tanh(i_n + r g_n);   h' = n + u (h - n)

    Rows of h (before the step), p and (mean, raw)."""

    @staticmethod
    def forward(ctx, encoder_x, gates_x, noise, E, O, o, P, b, W, U, c, rows):
        total, Z = noise.shape
        H = U.shape[1]
        new = encoder_x.new_empty
        EU = torch.cat([E, U])  # one product with h: the encoder's part, then the three gates'
        base = torch.cat([encoder_x, c.expand(total, -1)], 1)
        hs, q, e, out, scale = new(total, H), new(total, 4 * H), new(total, H), new(total, 2 * Z), \
            new(total, Z)
        z, p, i, ru, n = new(total, Z), new(total, H), new(total, 3 * H), new(total, 2 * H), \
            new(total, H)
        state = encoder_x.new_zeros(rows.B, H)
        for (count, x_t, eps_t, base_t, h_t, q_t, q_e, q_ru, q_n, e_t, out_t, mean_t, raw_t, scale_t,
             z_t, p_t, i_t, i_ru, i_n, ru_t, r_t, u_t, n_t) in zip(rows.counts, *map(rows.split, (
                gates_x, noise, base, hs, q, q[:, :H], q[:, H:3 * H], q[:, 3 * H:], e, out,
                out[:, :Z], out[:, Z:], scale, z, p, i, i[:, :2 * H], i[:, 2 * H:], ru, ru[:, :H],
                ru[:, H:], n))):
            h_t.copy_(state[:count])
            torch.addmm(base_t, h_t, EU.t(), out=q_t)
            torch.clamp_min(q_e, 0, out=e_t)
            torch.addmm(o, e_t, O.t(), out=out_t)
            torch.ops.aten.softplus.out(raw_t, out=scale_t)
            torch.addcmul(mean_t, scale_t, eps_t, out=z_t)
            torch.addmm(b, z_t, P.t(), out=p_t).relu_()
            torch.addmm(x_t, p_t, W.t(), out=i_t)
            torch.add(i_ru, q_ru, out=ru_t).sigmoid_()
            torch.addcmul(i_n, r_t, q_n, out=n_t).tanh_()
            state = torch.lerp(n_t, h_t, u_t)
        ctx.save_for_backward(noise, O, P, W, EU, hs, q, e, scale, z, p, ru, n)
        ctx.rows = rows
        return hs, p, out

    @staticmethod
    def backward(ctx, grad_hs, grad_p, grad_out):
        noise, O, P, W, EU, hs, q, e, scale, z, p, ru, n = ctx.saved_tensors
        rows, (total, Z), H = ctx.rows, noise.shape, hs.shape[1]
        r, u = ru[:, :H], ru[:, H:]
        scaled_noise = -torch.expm1(-scale) * noise  # sigmoid(raw) eps
        to_n = (1 - u) * (1 - n * n)
        to_u = (hs - n) * u * (1 - u)
        to_r = q[:, 3 * H:] * r * (1 - r)
        new = hs.new_zeros
        d_i, d_q, d_p, d_out = new(total, 3 * H), new(total, 4 * H), new(total, H), grad_out.clone()
        carry = hs[:0]
        for (di_t, di_ru, di_r, di_u, di_n, dq_t, dq_e, dq_ru, dq_n, dp_t, do_t, do_mean, do_raw,
             noise_t, to_n_t, to_u_t, to_r_t, r_t, u_t, p_t, e_t, grad_h_t, grad_p_t
             ) in reversed(list(zip(*map(rows.split, (
                d_i, d_i[:, :2 * H], d_i[:, :H], d_i[:, H:2 * H], d_i[:, 2 * H:], d_q, d_q[:, :H],
                d_q[:, H:3 * H], d_q[:, 3 * H:], d_p, d_out, d_out[:, :Z], d_out[:, Z:],
                scaled_noise, to_n, to_u, to_r, r, u, p, e, grad_hs, grad_p))))):
            k = len(carry)  # sequences that go on after this step; zeros for the others
            if k:
                torch.mul(carry, to_n_t[:k], out=di_n[:k])
                torch.mul(carry, to_u_t[:k], out=di_u[:k])
                torch.mul(di_n[:k], to_r_t[:k], out=di_r[:k])
                torch.mul(di_n[:k], r_t[:k], out=dq_n[:k])
                dq_ru[:k].copy_(di_ru[:k])
            torch.addmm(grad_p_t, di_t, W, out=dp_t)
            threshold_backward(dp_t, p_t, 0, grad_input=dp_t)
            d_z = torch.mm(dp_t, P)
            do_mean.add_(d_z)
            do_raw.addcmul_(d_z, noise_t)
            threshold_backward(torch.mm(do_t, O), e_t, 0, grad_input=dq_e)
            before = torch.addmm(grad_h_t, dq_t, EU)
            if k:
                before[:k].addcmul_(carry, u_t[:k])
            carry = before
        d_EU = d_q.t() @ hs
        return (d_q[:, :H], d_i, None, d_EU[:H], d_out.t() @ e, d_out.sum(0), d_p.t() @ z,
                d_p.sum(0), d_i.t() @ p, d_EU[H:], d_q[:, H:].sum(0), None)


class Gru(torch.autograd.Function):
    """PyTorch's GRU over [T][B][H] from h0 [B][H]; gates_x = W x + b_ih, gates r, u, n.

        g = U h + c;  r, u = sigmoid(gates_x + g);  n = tanh(gates_x_n + r g_n);  h' = n + u (h - n)"""

    @staticmethod
    def forward(ctx, gates_x, h0, U, c):
        T, B, H = len(gates_x), *h0.shape
        g, ru = torch.empty_like(gates_x), gates_x.new_empty(T, B, 2 * H)
        n, h = gates_x.new_empty(T, B, H), gates_x.new_empty(T, B, H)
        state, transposed = h0, U.t()
        for x_ru, x_n, g_t, g_ru, g_n, ru_t, r_t, u_t, n_t, h_t in zip(*map(torch.unbind, (
                gates_x[..., :2 * H], gates_x[..., 2 * H:], g, g[..., :2 * H], g[..., 2 * H:], ru,
                ru[..., :H], ru[..., H:], n, h))):
            torch.addmm(c, state, transposed, out=g_t)
            torch.add(x_ru, g_ru, out=ru_t).sigmoid_()
            torch.addcmul(x_n, r_t, g_n, out=n_t).tanh_()
            state = torch.lerp(n_t, state, u_t, out=h_t)
        ctx.save_for_backward(h0, U, g, ru, n, h)
        return h

    @staticmethod
    def backward(ctx, grad_h):
        h0, U, g, ru, n, h = ctx.saved_tensors
        H = h0.shape[1]
        r, u, before = ru[..., :H], ru[..., H:], torch.cat([h0[None], h[:-1]])
        to_n = (1 - u) * (1 - n * n)
        to_u = (before - n) * u * (1 - u)
        to_r = g[..., 2 * H:] * r * (1 - r)
        d_x, d_g = torch.empty_like(g), torch.empty_like(g)
        carry = torch.zeros_like(h0)
        for (grad_t, dx_ru, dx_r, dx_u, dx_n, dg_t, dg_ru, dg_n, to_n_t, to_u_t, to_r_t, r_t, u_t
             ) in reversed(list(zip(*map(torch.unbind, (
                grad_h, d_x[..., :2 * H], d_x[..., :H], d_x[..., H:2 * H], d_x[..., 2 * H:], d_g,
                d_g[..., :2 * H], d_g[..., 2 * H:], to_n, to_u, to_r, r, u))))):
            d_h = carry + grad_t
            torch.mul(d_h, to_n_t, out=dx_n)
            torch.mul(d_h, to_u_t, out=dx_u)
            torch.mul(dx_n, to_r_t, out=dx_r)
            torch.mul(dx_n, r_t, out=dg_n)
            dg_ru.copy_(dx_ru)
            carry = torch.addmm(d_h.mul_(u_t), dg_t, U)
        flat = d_g.flatten(0, 1)
        return d_x, carry, flat.t() @ before.flatten(0, 1), flat.sum(0)
