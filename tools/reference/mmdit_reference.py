#!/usr/bin/env python3
"""Reference values of the MMDiT from diffusers' SD3Transformer2DModel with random weights.

Writes two safetensors files. OUT: for each variant (sd3, sd35_medium, sd35_large: small networks with the structure of the released ones)
the state dict (weights and the position grid), and for a square and a wide input x: the output in fp32 and of the network in bf16,
gradients to x and to the weights that adapters may sit on for a random cotangent, and the directional derivative (torch.func.jvp)
along random tangents. Besides: crops of position grids of several sizes.
ADAPTERS: for each variant and input the directional derivative of the network in bf16; and for the square input, with PEFT adapters on every
projection of the attentions: the adapters, the output, the gradients to x and to the adapters (of the network in bf16, too), and the
directional derivative.
Usage: mmdit_reference.py OUT.safetensors ADAPTERS.safetensors
"""
import copy
import sys

import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.embeddings import PatchEmbed
from peft import LoraConfig
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel

SD3 = dict(sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=8, num_attention_heads=2,
           joint_attention_dim=12, caption_projection_dim=16, pooled_projection_dim=10, pos_embed_max_size=6)
VARIANTS = {
    "sd3": SD3,
    "sd35_medium": SD3 | dict(sample_size=12, num_layers=4, pos_embed_max_size=8, dual_attention_layers=(0, 1, 3), qk_norm="rms_norm"),
    "sd35_large": SD3 | dict(num_attention_heads=3, caption_projection_dim=24, pos_embed_max_size=7, qk_norm="rms_norm"),
}
SHAPES = {"square": (8, 8), "wide": (6, 12)}
PROJECTIONS = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
ALSO = ["transformer_blocks.1.ff.net.2.weight", "transformer_blocks.2.norm1_context.linear.weight"]
# (sample_size, pos_embed_max_size, height, width), patches of 2: those of the released networks, and odd ones.
CROPS = [(128, 192, 32, 48), (128, 384, 48, 18), (128, 192, 2, 384), (8, 6, 12, 12), (8, 7, 10, 4), (10, 9, 2, 2)]


def runner(net, values, dtype=torch.float32):
    """The output at (x, t)."""
    return lambda x, t: net(hidden_states=x.to(dtype), timestep=t, encoder_hidden_states=values["context"].to(dtype),
                            pooled_projections=values["pooled"].to(dtype), return_dict=False)[0]


def tangent(run, values):
    with sdpa_kernel(SDPBackend.MATH):
        return torch.func.jvp(run, (values["x"], values["t"]), (values["dx"], values["dt"]))[1].detach()


def case(net, height, width):
    x, dx, cotangent = (torch.randn(2, 4, height, width) for _ in range(3))
    t, dt = torch.tensor([37.5, 912.0]), torch.tensor([3.0, -5.0])
    context, pooled = torch.randn(2, 5, 12), torch.randn(2, 10)
    out = {"x": x, "dx": dx, "t": t, "dt": dt, "context": context, "pooled": pooled, "cotangent": cotangent}
    weights = {k: v for k, v in net.named_parameters() if ".attn" in k and k.endswith("weight") and "norm" not in k or k in ALSO}
    leaf = x.clone().requires_grad_(True)
    y = runner(net, out)(leaf, t)
    grads = torch.autograd.grad(y, [leaf, *weights.values()], cotangent)
    narrow = runner(copy.deepcopy(net).to(torch.bfloat16), out, torch.bfloat16)
    with torch.no_grad():
        y_bf16 = narrow(x, t)
    out |= {"y": y.detach(), "y_bf16": y_bf16, "tangent": tangent(runner(net, out), out), "grad.x": grads[0]}
    return out | {f"grad.{k}": g for k, g in zip(weights, grads[1:])}, {"tangent_bf16": tangent(narrow, out)}


def with_adapters(net, values):
    """Adapters with no zero matrix; net keeps them."""
    net.add_adapter(LoraConfig(r=2, lora_alpha=3, target_modules=PROJECTIONS))
    lora = {k: p for k, p in net.named_parameters() if "lora_" in k}
    with torch.no_grad():
        for p in lora.values():
            p.copy_(0.3 * torch.randn_like(p))
    out = {"tangent": tangent(runner(net, values), values)} | {k.replace(".default", ""): p for k, p in lora.items()}
    for end, network, dtype in (("", net, torch.float32), ("_bf16", copy.deepcopy(net).to(torch.bfloat16), torch.bfloat16)):
        leaf = values["x"].clone().requires_grad_(True)
        inputs = {"x": leaf} | {k.replace(".default", ""): p for k, p in network.named_parameters() if "lora_" in k}
        y = runner(network, values, dtype)(leaf, values["t"])
        grads = torch.autograd.grad(y, [*inputs.values()], values["cotangent"].to(dtype))
        out |= {f"y{end}": y} | {f"grad{end}.{k}": g for k, g in zip(inputs, grads)}
    return out


def prefixed(prefix, values):
    return {f"{prefix}.{k}": v for k, v in values.items()}


def variant(name, config):
    torch.manual_seed(5)
    net = SD3Transformer2DModel(**config).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.2 * torch.randn_like(p))
    out, more = prefixed(f"{name}.weights", net.state_dict()), {}
    cases = {}
    for shape, size in SHAPES.items():
        cases[shape], extra = case(net, *size)
        out |= prefixed(f"{name}.{shape}", cases[shape])
        more |= prefixed(f"{name}.{shape}", extra)
    return out, more | prefixed(f"{name}.adapters", with_adapters(net, cases["square"]))


def crop(sample_size, side, height, width):
    embed = PatchEmbed(height=sample_size, width=sample_size, patch_size=2, in_channels=4, embed_dim=16, pos_embed_max_size=side)
    return embed.cropped_pos_embed(height, width)


tensors = {f"crop.{'.'.join(map(str, c))}": crop(*c) for c in CROPS}
adapters = {}
for name, config in VARIANTS.items():
    values, more = variant(name, config)
    tensors |= values
    adapters |= more
for path, values in zip(sys.argv[1:3], (tensors, adapters)):
    save_file({k: v.detach().contiguous().clone() for k, v in values.items()}, path)
