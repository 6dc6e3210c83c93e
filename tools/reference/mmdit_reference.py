#!/usr/bin/env python3
"""Reference values of the MMDiT from diffusers' SD3Transformer2DModel with random weights.

Writes one safetensors file: for each variant (plain, qk_norm) the weights, inputs, output, gradients to the input and to three
weights for a random cotangent, and the directional derivative (torch.func.jvp) along random tangents.
Usage: mmdit_reference.py OUT.safetensors
"""
import sys

import torch
from diffusers import SD3Transformer2DModel
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel

CONFIG = dict(sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=8, num_attention_heads=2,
              joint_attention_dim=12, caption_projection_dim=16, pooled_projection_dim=10, pos_embed_max_size=6)
GRADIENTS = ["transformer_blocks.0.attn.to_q.weight", "transformer_blocks.1.ff.net.2.weight", "transformer_blocks.2.norm1_context.linear.weight"]


def variant(name, **extra):
    torch.manual_seed(5)
    net = SD3Transformer2DModel(**CONFIG, **extra).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.2 * torch.randn_like(p))
    x, dx = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    t, dt = torch.tensor([37.5, 912.0]), torch.tensor([3.0, -5.0])
    context, pooled, cotangent = torch.randn(2, 5, 12), torch.randn(2, 10), torch.randn(2, 4, 8, 8)

    def run(sample, timestep):
        return net(hidden_states=sample, timestep=timestep, encoder_hidden_states=context, pooled_projections=pooled, return_dict=False)[0]

    weights = dict(net.named_parameters())
    leaf = x.clone().requires_grad_(True)
    y = run(leaf, t)
    grads = torch.autograd.grad(y, [leaf] + [weights[g] for g in GRADIENTS], cotangent)
    with sdpa_kernel(SDPBackend.MATH):
        _, tangent = torch.func.jvp(run, (x, t), (dx, dt))
    out = {f"weights.{k}": v.detach() for k, v in weights.items()}
    out |= {"x": x, "dx": dx, "t": t, "dt": dt, "context": context, "pooled": pooled, "cotangent": cotangent, "y": y.detach(),
            "tangent": tangent.detach(), "grad.x": grads[0]}
    out |= {f"grad.{g}": v for g, v in zip(GRADIENTS, grads[1:])}
    return {f"{name}.{k}": v.contiguous().clone() for k, v in out.items()}


save_file(variant("plain") | variant("qk_norm", qk_norm="rms_norm"), sys.argv[1])
