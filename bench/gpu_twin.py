#!/usr/bin/env python3
"""The PyTorch twin of bench/gpu_bench.cpp: the same network, measures, names and JSON lines, as one would write them in plain
PyTorch: bf16 weights, scaled_dot_product_attention, adapters beside the weights, torch.func.jvp for the tangent (attention by
its math kernel there: the fused ones have no forward mode).

Usage: gpu_twin.py --device cuda --shape sd3-medium --pixels 512 [--compile] [--measures forward/merged,backward]
--compile compiles one joint block of each kind and reuses it for all but the last (regional compilation); `first_s` of a measure is
its first call, compilation included.
Needs torch==2.11.0 and nothing else.
"""
import argparse
import json
import resource
import time

import torch
import torch.utils.checkpoint
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

MEASURES = ("product", "copy", "forward/base", "forward/lora", "forward/merged", "backward", "backward/checkpointed", "rollout",
            "update", "tangent")
SD3 = dict(layers=24, heads=24, context=4096, pooled=2048, grid=192, sample=64, qk_norm=False, dual=0)
SHAPES = {"sd3-medium": SD3, "sd35-medium": dict(SD3, grid=384, qk_norm=True, dual=13),
          "tiny": dict(SD3, layers=2, heads=2, context=32, pooled=32, grid=16, sample=8, qk_norm=True, dual=1)}
CHANNELS, PATCH, HEAD, RANK = 16, 2, 64, 8


class LoraLinear(nn.Linear):
    """A linear layer with an adapter: off, on (added in the layer's dtype) or merged."""

    def __init__(self, i, o):
        super().__init__(i, o)
        self.a, self.b, self.mode = nn.Parameter(torch.empty(RANK, i)), nn.Parameter(torch.empty(o, RANK)), "off"
        self.register_buffer("merged", None)

    def forward(self, x):
        y = F.linear(x, self.merged if self.mode == "merged" else self.weight, self.bias)
        return y + F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype)) if self.mode == "on" else y


def modulate(x, shift, scale, dtype):
    return (F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]).to(dtype)


def heads_of(x):
    return x.view(x.shape[0], x.shape[1], -1, HEAD).transpose(1, 2)


class Attention(nn.Module):
    """Queries, keys and values of one stream, and its output layer."""

    def __init__(self, D, linear, qk_norm, out=True):
        super().__init__()
        self.q, self.k, self.v = (linear(D, D) for _ in range(3))
        self.out = linear(D, D) if out else None
        self.norm_q, self.norm_k = (nn.RMSNorm(HEAD, eps=1e-6) if qk_norm else nn.Identity() for _ in range(2))

    def heads(self, x):
        return self.norm_q(heads_of(self.q(x))), self.norm_k(heads_of(self.k(x))), heads_of(self.v(x))


def attend(q, k, v):
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """The residual streams are fp32, the products bf16, as in vggflow."""

    def __init__(self, D, qk_norm, dual, last):
        super().__init__()
        self.dual, self.last = dual, last
        self.norm1, self.norm1_context = nn.Linear(D, (9 if dual else 6) * D), nn.Linear(D, (2 if last else 6) * D)
        self.image, self.text = Attention(D, LoraLinear, qk_norm), Attention(D, nn.Linear, qk_norm, out=not last)
        if dual:
            self.own = Attention(D, nn.Linear, qk_norm)
        self.fc1, self.fc2 = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        if not last:
            self.cfc1, self.cfc2 = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)

    def forward(self, x, c, e):
        m, n = self.norm1(e).chunk(9 if self.dual else 6, 1), self.norm1_context(e).chunk(2 if self.last else 6, 1)
        xn = modulate(x, m[0], m[1], e.dtype)
        cn = modulate(c, n[1], n[0], e.dtype) if self.last else modulate(c, n[0], n[1], e.dtype)
        q, k, v = (torch.cat(pair, 2) for pair in zip(self.image.heads(xn), self.text.heads(cn)))
        out, tokens, before = attend(q, k, v), x.shape[1], x
        x = x + m[2][:, None] * self.image.out(out[:, :tokens])
        if self.dual:
            x = x + m[8][:, None] * self.own.out(attend(*self.own.heads(modulate(before, m[6], m[7], e.dtype))))
        x = x + m[5][:, None] * self.fc2(F.gelu(self.fc1(modulate(x, m[3], m[4], e.dtype)), approximate="tanh"))
        if self.last:
            return x, c
        c = c + n[2][:, None] * self.text.out(out[:, tokens:])
        return x, c + n[5][:, None] * self.cfc2(F.gelu(self.cfc1(modulate(c, n[3], n[4], e.dtype)), approximate="tanh"))


class Mmdit(nn.Module):
    def __init__(self, shape, side):
        super().__init__()
        D = shape["heads"] * HEAD
        self.proj, self.context = nn.Conv2d(CHANNELS, D, PATCH, PATCH), nn.Linear(shape["context"], D)
        self.time1, self.time2, self.text1, self.text2 = nn.Linear(256, D), nn.Linear(D, D), nn.Linear(shape["pooled"], D), nn.Linear(D, D)
        self.blocks = nn.ModuleList(Block(D, shape["qk_norm"], i < shape["dual"], i == shape["layers"] - 1) for i in range(shape["layers"]))
        self.norm_out, self.out = nn.Linear(D, 2 * D), nn.Linear(D, PATCH * PATCH * CHANNELS)
        self.register_buffer("pos", torch.empty(1, (side // PATCH) ** 2, D))
        self.checkpointing = False

    def forward(self, x, t, context, pooled):
        dtype, b, g = self.out.weight.dtype, x.shape[0], x.shape[2] // PATCH
        f = torch.exp(torch.arange(128, device=x.device) * (-9.210340371976184 / 128))
        a = t[:, None] * f
        emb = torch.cat([a.cos(), a.sin()], 1).to(dtype)
        e = F.silu(self.time2(F.silu(self.time1(emb))) + self.text2(F.silu(self.text1(pooled))))
        h, c = self.proj(x.to(dtype)).flatten(2).transpose(1, 2).float() + self.pos, self.context(context).float()
        for block in self.blocks:
            if self.checkpointing:
                h, c = torch.utils.checkpoint.checkpoint(block, h, c, e, use_reentrant=False)
            else:
                h, c = block(h, c, e)
        scale, shift = self.norm_out(e).chunk(2, 1)
        y = self.out(modulate(h, shift, scale, dtype)).float().view(b, g, g, PATCH, PATCH, CHANNELS)
        return y.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)


class TaesdBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
                                   nn.Conv2d(64, 64, 3, padding=1))

    def forward(self, x):
        return F.relu(x + self.convs(x))


class TaesdDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        stage = lambda: [TaesdBlock(), TaesdBlock(), TaesdBlock(), nn.Upsample(scale_factor=2), nn.Conv2d(64, 64, 3, padding=1, bias=False)]
        self.layers = nn.Sequential(nn.Conv2d(CHANNELS, 64, 3, padding=1), nn.ReLU(), *stage(), *stage(), *stage(), TaesdBlock(),
                                    nn.Conv2d(64, 3, 3, padding=1))

    def forward(self, z):
        return self.layers(3 * torch.tanh(z / 3))


def colorfulness(x):
    r, g, b = (x.flatten(2) * 255).unbind(1)
    rg, yb = r - g, 0.5 * (r + g) - b
    var = rg.var(1, correction=0) + yb.var(1, correction=0)
    return (var + 1e-6).sqrt() + 0.3 * (rg.mean(1) ** 2 + yb.mean(1) ** 2 + 1e-6).sqrt()


def shifted(s):
    return 3 * s / (1 + 2 * s)


class Twin:
    def __init__(self, a):
        torch.manual_seed(0)
        self.a, self.device, self.side = a, torch.device(a.device), a.pixels // 8
        shape = SHAPES[a.shape]
        with torch.device("meta"):
            self.net, self.decoder = Mmdit(shape, self.side), TaesdDecoder()
        self.net.to_empty(device=self.device)
        self.decoder.to_empty(device=self.device)
        self.net.requires_grad_(False).to(torch.bfloat16)
        self.decoder.requires_grad_(False)
        for module in (self.net, self.decoder):
            for name, p in module.named_parameters():
                p.data.normal_(0, (p[0].numel() if p.dim() > 1 else 2500) ** -0.5)
                if "norm_" in name and p.dim() == 1 and name.endswith("weight"):
                    p.data.add_(1)
        self.net.pos = torch.randn_like(self.net.pos, dtype=torch.float32)
        self.linears = [m for m in self.net.modules() if isinstance(m, LoraLinear)]
        for m in self.linears:
            m.a = nn.Parameter(torch.randn(RANK, m.in_features, device=self.device) / RANK)
            m.b = nn.Parameter(torch.randn(m.out_features, RANK, device=self.device) * 0.003)
        self.lora = [p for m in self.linears for p in (m.a, m.b)]
        self.optimizer = torch.optim.AdamW(self.lora, lr=1e-4, fused=self.device.type == "cuda")
        self.context = self.normal(1, a.text_tokens, shape["context"]).to(torch.bfloat16)
        self.pooled = self.normal(1, shape["pooled"]).to(torch.bfloat16)
        self.x, self.t = self.states(a.rows), torch.linspace(400, 600, a.rows, device=self.device)
        self.dx, self.dt = self.states(a.rows), torch.ones_like(self.t)
        self.cotangent = self.states(a.rows)

    def normal(self, *shape):
        return torch.randn(*shape, device=self.device)

    def states(self, n):
        return self.normal(n, CHANNELS, self.side, self.side)

    def mode(self, mode):
        for m in self.linears:
            m.mode = mode

    def merge(self):
        with torch.no_grad():
            for m in self.linears:
                m.merged = (m.weight.float() + m.b @ m.a).to(m.weight.dtype)

    def run(self, x, t):
        n = len(x)
        return self.net(x, t, self.context.expand(n, -1, -1), self.pooled.expand(n, -1))

    @torch.no_grad()
    def forward(self, mode):
        self.mode(mode)
        self.run(self.x, self.t)

    @torch.no_grad()
    def tangent(self):
        self.mode("merged")
        with sdpa_kernel(SDPBackend.MATH):
            torch.func.jvp(self.run, (self.x, self.t), (self.dx, self.dt))

    def backward(self, checkpointing):
        self.mode("on")
        self.net.checkpointing = checkpointing
        x = self.x.detach().requires_grad_(True)
        torch.autograd.grad(self.run(x, self.t), [x] + self.lora, self.cotangent)
        self.net.checkpointing = False

    def guided(self, x, t):
        """Both branches of one prompt in one batch, guidance 5."""
        n = len(x)
        both = self.run(torch.cat([x, x]), 1000 * (1 - torch.cat([t, t])))
        return 4 * both[:n] - 5 * both[n:]

    @torch.no_grad()
    def rollout(self):
        self.mode("merged")
        n, steps = self.a.trajectories, self.a.steps
        times = [1 - shifted(1 - k / steps) for k in range(steps + 1)]
        x, states = self.states(n), []
        for t, after in zip(times, times[1:]):
            v = self.guided(x, torch.full((n,), t, device=self.device))
            states.append((x, t, v))
            x = x + (after - t) * v
        return states, x

    def reward_gradient(self, guess):
        guess = guess.detach().requires_grad_(True)
        image = ((self.decoder(guess) * 2 - 1 + 1) / 2).clamp(0, 1)
        return torch.autograd.grad(colorfulness(image).sum(), guess)[0]

    def update(self):
        """The passes of vggflow's update: 6 transitions per trajectory, parts of micro_batch."""
        self.merge()
        states, _ = self.rollout()
        n, steps = self.a.trajectories, self.a.steps
        picked = [states[max(0, min(steps - 1, int(steps * f)))] for f in (0.1, 0.3, 0.5, 0.7, 0.85, 1)]
        x, v = (torch.cat([s[i] for s in picked]) for i in (0, 2))
        t = torch.cat([torch.full((n,), s[1], device=self.device) for s in picked])
        part = lambda i: slice(i, i + self.a.micro_batch)
        wide = lambda t: t[:, None, None, None]
        parts = range(0, len(x), self.a.micro_batch)
        grad = torch.cat([self.reward_gradient(x[part(i)] + wide(1 - t[part(i)]) * v[part(i)]) for i in parts])
        norm = grad.flatten(1).norm(dim=1)
        grad = grad * wide((norm.quantile(0.8) / norm).clamp(max=1))
        self.optimizer.zero_grad()
        for i in parts:
            xs, ts, known = x[part(i)], t[part(i)], v[part(i)]
            with torch.no_grad():
                self.mode("off")
                target = self.guided(xs, ts) + 1e-3 * wide(ts * ts) * grad[part(i)]
            self.mode("on")
            branch = -self.run(xs, 1000 * (1 - ts))
            policy = known + 5 * (branch - branch.detach())
            (((policy - target) ** 2).sum() / x.numel()).backward()
        self.optimizer.step()


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


class Clock:
    """Times and prints; the caps are gpu_bench's."""

    def __init__(self, a):
        self.a, self.device = a, torch.device(a.device)
        self.program = "torch.compile" if a.compile else "torch eager"

    def print(self, line):
        head = dict(program=self.program, device=self.a.device, shape=self.a.shape, pixels=self.a.pixels, rows=self.a.rows)
        print(json.dumps(head | line), flush=True)

    def time(self, name, run, flops=0, moved=0, **facts):
        a, line = self.a, dict(measure=name, **facts)
        try:
            begin = time.perf_counter()
            run()
            synchronize(self.device)
            line["first_s"] = time.perf_counter() - begin
            begin, warm = time.perf_counter(), 1
            while warm < a.warm_ups and time.perf_counter() - begin < a.seconds / 3:
                run()
                warm += 1
            synchronize(self.device)
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            ms = []
            while len(ms) < a.repeats and (not ms or time.perf_counter() - begin < a.seconds):
                start = time.perf_counter()
                run()
                synchronize(self.device)
                ms.append(1e3 * (time.perf_counter() - start))
            ms.sort()
            median = ms[len(ms) // 2]
            peak = torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            line |= dict(median_ms=median, least_ms=ms[0], most_ms=ms[-1], repeats=len(ms), peak_gib=peak)
            if flops:
                line["tflop_per_s"] = 1e-9 * flops / median
            if moved:
                line["gb_per_s"] = 1e-6 * moved / median
        except Exception as error:  # one measure's failure leaves the others' figures
            line["error"] = f"{type(error).__name__}: {error}".split("\n")[0][:300]
            self.device.type == "cuda" and torch.cuda.empty_cache()
        self.print(line)


def ceilings(a, clock):
    n = a.side
    if "product" in a.measures:
        left, right = (torch.randn(n, n, device=a.device).to(torch.bfloat16) for _ in range(2))
        clock.time("product", lambda: left @ right, flops=2 * n**3)
    if "copy" in a.measures:
        source = torch.randn(8, n, n, device=a.device)
        target = torch.empty_like(source)
        clock.time("copy", lambda: target.copy_(source), moved=2 * source.numel() * 4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", default="tiny", choices=SHAPES)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--measures", default=",".join(MEASURES))
    for name, value in dict(rows=1, text_tokens=333, trajectories=2, steps=20, micro_batch=4, side=8192, repeats=10, warm_ups=3).items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    parser.add_argument("--seconds", type=float, default=60)
    a = parser.parse_args()
    a.measures = a.measures.split(",")
    unknown = set(a.measures) - set(MEASURES)
    if unknown:
        parser.error(f"unknown measures {', '.join(sorted(unknown))}; known are {', '.join(MEASURES)}")
    clock = Clock(a)
    ceilings(a, clock)
    if not set(a.measures) - {"product", "copy"}:
        return
    twin = Twin(a)
    twin.merge()
    if a.compile:
        torch._dynamo.config.cache_size_limit = 64
        for block in twin.net.blocks[:-1]:
            block.compile(dynamic=False)
    loops = dict(trajectories=a.trajectories, steps=a.steps)
    runs = {"forward/base": lambda: twin.forward("off"), "forward/lora": lambda: twin.forward("on"),
            "forward/merged": lambda: twin.forward("merged"), "backward": lambda: twin.backward(False),
            "backward/checkpointed": lambda: twin.backward(True), "rollout": twin.rollout, "update": twin.update, "tangent": twin.tangent}
    for name, run in runs.items():
        if name in a.measures:
            facts = loops if name == "rollout" else dict(loops, micro_batch=a.micro_batch) if name == "update" else {}
            clock.time(name, run, **facts)


if __name__ == "__main__":
    main()
