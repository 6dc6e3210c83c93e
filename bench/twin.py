#!/usr/bin/env python3
"""The PyTorch twin of bench/nano_bench.cpp: same shapes, dtypes, threads and passes (listed there), eager or torch.compile.

Usage: twin.py [--compile] [--threads 2] [--serve]. Needs torch==2.11.0 (tools/reference/requirements.txt).
--serve reads jobs (`sample/bf16`) from its input, one per line, runs each once and prints its seconds (bench/compare.py asks); `graphs`
prints how many graphs torch.compile has made.
"""
import argparse
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

TEXT, TOKENS, PATCH, SIDE = 96, 12, 4, 32


class LoraLinear(nn.Linear):
    """A linear layer with an adapter: off, on (added, as peft does) or merged."""

    def __init__(self, i, o):
        super().__init__(i, o)
        self.a, self.b, self.mode, self.merged = nn.Parameter(torch.randn(8, i) / 8), nn.Parameter(torch.zeros(o, 8)), "off", None

    def merge(self):
        with torch.no_grad():
            self.merged = (self.weight.float() + self.b.float() @ self.a.float()).to(self.weight.dtype)

    def forward(self, x):
        y = F.linear(x, self.merged if self.mode == "merged" else self.weight, self.bias)
        return y + F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype)) if self.mode == "on" else y


def modulate(x, shift, scale):
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    def __init__(self, D, heads, last):
        super().__init__()
        self.last, self.count = last, heads
        self.norm1, self.norm1_context = nn.Linear(D, 6 * D), nn.Linear(D, (2 if last else 6) * D)
        self.q, self.k, self.v, self.o = (LoraLinear(D, D) for _ in range(4))
        self.cq, self.ck, self.cv = (nn.Linear(D, D) for _ in range(3))
        self.fc1, self.fc2 = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        if not last:
            self.co, self.cfc1, self.cfc2 = nn.Linear(D, D), nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

    def forward(self, x, c, e):
        m, n = self.norm1(e).chunk(6, 1), self.norm1_context(e).chunk(2 if self.last else 6, 1)
        xn = modulate(x, m[0], m[1])
        cn = modulate(c, n[1], n[0]) if self.last else modulate(c, n[0], n[1])
        heads = lambda t: t.view(t.shape[0], -1, self.count, t.shape[2] // self.count).transpose(1, 2)
        q, k, v = (heads(torch.cat([f(xn), g(cn)], 1)) for f, g in ((self.q, self.cq), (self.k, self.ck), (self.v, self.cv)))
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape[0], -1, x.shape[2])
        x = x + m[2][:, None] * self.o(out[:, :x.shape[1]])
        x = x + m[5][:, None] * self.fc2(F.gelu(self.fc1(modulate(x, m[3], m[4])), approximate="tanh"))
        if self.last:
            return x, c
        c = c + n[2][:, None] * self.co(out[:, x.shape[1]:])
        return x, c + n[5][:, None] * self.cfc2(F.gelu(self.cfc1(modulate(c, n[3], n[4])), approximate="tanh"))


class Mmdit(nn.Module):
    def __init__(self, D, heads, layers):
        super().__init__()
        self.proj, self.context = nn.Conv2d(3, D, PATCH, PATCH), nn.Linear(TEXT, D)
        self.time1, self.time2, self.text1, self.text2 = nn.Linear(256, D), nn.Linear(D, D), nn.Linear(TEXT, D), nn.Linear(D, D)
        self.blocks = nn.ModuleList(Block(D, heads, i == layers - 1) for i in range(layers))
        self.norm_out, self.out = nn.Linear(D, 2 * D), nn.Linear(D, PATCH * PATCH * 3)
        self.register_buffer("pos", torch.randn(1, (SIDE // PATCH) ** 2, D))

    def forward(self, x, t, context, pooled):
        dtype = self.out.weight.dtype
        f = torch.exp(torch.arange(128) * (-torch.log(torch.tensor(10000.0)) / 128))
        a = t[:, None] * f
        emb = torch.cat([a.cos(), a.sin()], 1).to(dtype)
        e = F.silu(self.time2(F.silu(self.time1(emb))) + self.text2(F.silu(self.text1(pooled.to(dtype)))))
        h, c = self.proj(x.to(dtype)).flatten(2).transpose(1, 2) + self.pos.to(dtype), self.context(context.to(dtype))
        for block in self.blocks:
            h, c = block(h, c, e)
        scale, shift = self.norm_out(e).chunk(2, 1)
        g = SIDE // PATCH
        y = self.out(modulate(h, shift, scale)).float().view(-1, g, g, PATCH, PATCH, 3)
        return y.permute(0, 5, 1, 3, 2, 4).reshape(-1, 3, SIDE, SIDE)


def colorfulness(x):
    r, g, b = (x.flatten(2) * 255).unbind(1)
    rg, yb = r - g, 0.5 * (r + g) - b
    var = rg.var(1, correction=0) + yb.var(1, correction=0)
    return (var + 1e-6).sqrt() + 0.3 * (rg.mean(1) ** 2 + yb.mean(1) ** 2 + 1e-6).sqrt()


class Twin:
    def __init__(self, dtype, compiled):
        torch.manual_seed(0)
        self.net = Mmdit(160, 5, 6)
        lora = [p for m in self.net.modules() if isinstance(m, LoraLinear) for p in (m.a, m.b)]
        self.net.requires_grad_(False).to(dtype)
        for m in self.net.modules():
            if isinstance(m, LoraLinear):
                m.a.data, m.b.data = m.a.data.float(), m.b.data.float()
        for p in lora:
            p.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(lora, lr=1e-3)
        # One graph a mode and batch, each of fixed shapes: none is made anew while it is timed.
        self.run = torch.compile(self.net, dynamic=False) if compiled else self.net
        self.value = Mmdit(64, 2, 2)
        self.value_optimizer = torch.optim.AdamW(self.value.parameters(), lr=1e-3)
        self.run_value = torch.compile(self.value, dynamic=False) if compiled else self.value
        self.value_batch = None
        self.cond = torch.randn(80, TOKENS, TEXT), torch.randn(80, TEXT)
        self.unc = torch.randn(80, TOKENS, TEXT), torch.randn(80, TEXT)

    def mode(self, mode):
        for m in self.net.modules():
            if isinstance(m, LoraLinear):
                m.mode = mode
                if mode == "merged":
                    m.merge()

    def guided(self, x, t):
        n = x.shape[0]
        both = self.run(torch.cat([x, x]), 1000 * (1 - torch.cat([t, t])), torch.cat([self.unc[0][:n], self.cond[0][:n]]),
                        torch.cat([self.unc[1][:n], self.cond[1][:n]]))
        return -(both[:n] * -2 + both[n:] * 3)

    @torch.no_grad()
    def rollout(self, n):
        self.mode("merged")
        x, states = torch.randn(n, 3, SIDE, SIDE), []
        for k in range(20):
            states.append(x)
            x = x + self.guided(x, torch.full((n,), k / 20)) / 20
        return states + [x]

    @torch.no_grad()
    def evaluate(self):
        for _ in range(4):
            colorfulness(((self.rollout(16)[-1] + 1) / 2).clamp(0, 1))

    def transitions(self):
        states, ks = self.rollout(16), (2, 6, 10, 14, 18)
        return states[-1], *self.guesses(states, ks)

    def guesses(self, states, ks):
        """x, t, the clipped gradient of the reward at the one-step guess and its factor, at steps ks of a rollout."""
        x, t = torch.cat([states[k] for k in ks]), torch.cat([torch.full((16,), k / 20) for k in ks])
        v = torch.cat([(states[k + 1] - states[k]) * 20 for k in ks])
        guess = (x + (1 - t)[:, None, None, None] * v).requires_grad_(True)
        grad, = torch.autograd.grad(colorfulness(((guess + 1) / 2).clamp(0, 1)).sum(), guess)
        norm = grad.flatten(1).norm(dim=1)
        factor = (norm.quantile(0.8) / norm).clamp(max=1)[:, None, None, None]
        return x, t, grad * factor, factor

    def update(self):
        _, x, t, grad, _ = self.transitions()
        with torch.no_grad():
            self.mode("off")
            base = self.guided(x, t)
        self.match(x, t, base, -(t * t)[:, None, None, None] * grad)

    def match(self, x, t, base, g):
        self.mode("on")
        with torch.no_grad():
            unc = self.run(x, 1000 * (1 - t), *self.unc)
        policy = -(unc * -2 + self.run(x, 1000 * (1 - t), *self.cond) * 3)
        self.optimizer.zero_grad()
        ((policy - base + g) ** 2).mean().backward()
        self.optimizer.step()

    def step_update(self):
        """An update with the value network by the residual over the rollout's own steps."""
        states = self.rollout(16)
        x, t, grad, _ = self.guesses(states, (2, 6, 10, 14, 18))
        next_x, next_t, next_grad, _ = self.guesses(states, (3, 7, 11, 15, 19))
        nu = lambda x, t: self.run_value(x, 1000 * (1 - t), self.cond[0][:len(x)], self.cond[1][:len(x)])
        square = lambda t: (t * t)[:, None, None, None]
        with torch.no_grad():
            g = nu(x, t) - square(t) * grad
        later = nu(next_x, next_t) - square(next_t) * next_grad
        self.mode("off")
        leaf = x.detach().requires_grad_(True)
        base = self.guided(leaf, t)
        pull, = torch.autograd.grad(base, leaf, later.detach())
        residual = later - (nu(x, t) - square(t) * grad) + pull / 20
        self.value_optimizer.zero_grad()
        (residual ** 2).mean().backward()
        self.value_optimizer.step()
        self.match(x, t, base.detach(), g)

    def value_pass(self):
        """What the value network adds to an update; exact derivatives by torch.func.jvp (attention by its math kernel: the fused
        one has no forward mode). The transitions are made once, as in nano_bench."""
        if self.value_batch is None:
            self.value_batch = self.transitions()
        x1, x, t, grad, factor = self.value_batch
        late, tt = (1 - t)[:, None, None, None], (t * t)[:, None, None, None]
        nu = lambda x, t: self.run_value(x, 1000 * (1 - t), self.cond[0][:len(x)], self.cond[1][:len(x)])
        with sdpa_kernel(SDPBackend.MATH):
            with torch.no_grad():
                g = nu(x, t) - tt * grad
                self.mode("off")
                w = self.guided(x, t) - g
                self.mode("merged")
                v, dv = torch.func.jvp(self.guided, (x, t), (w, torch.ones_like(t)))
            guess = (x + late * v).detach()
            reward_gradient = torch.func.grad(lambda y: colorfulness(((y + 1) / 2).clamp(0, 1)).sum())
            hessian = torch.func.jvp(reward_gradient, (guess,), (w - v + late * dv,))[1]
            self.mode("off")
            leaf = x.detach().requires_grad_(True)
            base, = torch.autograd.grad(self.guided(leaf, t), leaf, g)
            self.value_optimizer.zero_grad()
            dnu = torch.func.jvp(nu, (x, t), (w, torch.ones_like(t)))[1]
            residual = dnu + (base - 2 * t[:, None, None, None] * grad - tt * factor * hessian).detach()
            (residual ** 2).mean().backward()
        (nu(x1, torch.ones(len(x1))) ** 2).mean().backward()
        self.value_optimizer.step()


def measure(f, seconds=4):
    for _ in range(3):
        f()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        begin = time.perf_counter()
        f()
        times.append(time.perf_counter() - begin)
    return sorted(times)[len(times) // 2]


def jobs(twin):
    """name -> (pass, images)"""
    return {"sample": (lambda: twin.rollout(32), 32), "evaluate": (twin.evaluate, 64), "update": (twin.update, 16),
            "step": (twin.step_update, 16), "value": (twin.value_pass, 16)}


def serve(compiled):
    twins = {}
    for line in sys.stdin:
        if line.strip() == "graphs":
            print(torch._dynamo.utils.counters["stats"]["unique_graphs"] if compiled else 0, flush=True)
            continue
        job, dtype = line.strip().split("/")
        if dtype not in twins:
            twins[dtype] = jobs(Twin(DTYPES[dtype], compiled))
        run, _ = twins[dtype][job]
        begin = time.perf_counter()
        run()
        print(time.perf_counter() - begin, flush=True)


def measure_all(compiled):
    for name, dtype in DTYPES.items():
        for job, (run, images) in jobs(Twin(dtype, compiled)).items():
            if job == "value" and compiled:
                continue  # torch.compile does not trace torch.func.jvp over a compiled module
            seconds = measure(run)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"{job}/{name} {'compile' if compiled else 'eager'}: median {1e3 * seconds:.0f} ms, {images / seconds:.1f} images/s, peak {peak:.2f} GiB")


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
parser = argparse.ArgumentParser()
parser.add_argument("--compile", action="store_true")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--serve", action="store_true")
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)
if arguments.compile:
    import torch._dynamo.utils
    torch._dynamo.config.recompile_limit = 64
(serve if arguments.serve else measure_all)(arguments.compile)
