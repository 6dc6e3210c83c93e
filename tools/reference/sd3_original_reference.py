#!/usr/bin/env python3
"""A tiny checkpoint with every kind of name of a single-file SD3 / SD3.5 checkpoint, and what diffusers' single-file loader makes of it.

Three joint blocks of width 4 with QK-norm, the first with a second attention (SD3.5-medium); an autoencoder of two levels. Tensors are random and
as small as the names allow; the loader looks at names and at the first dimension only.
Usage: sd3_original_reference.py OUT.safetensors   (keys: original.<name>, diffusers.<component>.<name>)
"""
import sys

import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint, convert_sd3_transformer_checkpoint_to_diffusers
from safetensors.torch import save_file

torch.manual_seed(3)
WIDTH, BLOCKS, LEVELS = 4, 3, 2
original = {}


def linear(name, out, bias=True):
    original[f"{name}.weight"] = torch.randn(out, 2)
    if bias:
        original[f"{name}.bias"] = torch.randn(out)


def transformer(prefix="model.diffusion_model."):
    original[f"{prefix}pos_embed"] = torch.randn(1, 4, WIDTH)
    for name in ["x_embedder.proj", "t_embedder.mlp.0", "t_embedder.mlp.2", "y_embedder.mlp.0", "y_embedder.mlp.2", "context_embedder"]:
        linear(prefix + name, WIDTH)
    for i in range(BLOCKS):
        last = i == BLOCKS - 1
        for side in ["x_block", "context_block"]:
            at = f"{prefix}joint_blocks.{i}.{side}"
            for attention in ["attn", "attn2"] if side == "x_block" and i == 0 else ["attn"]:
                linear(f"{at}.{attention}.qkv", 3 * WIDTH)
                for norm in ["ln_q", "ln_k"]:
                    original[f"{at}.{attention}.{norm}.weight"] = torch.randn(2)
                if side == "x_block" or not last:
                    linear(f"{at}.{attention}.proj", WIDTH)
            linear(f"{at}.adaLN_modulation.1", 2 * WIDTH if side == "context_block" and last else 6 * WIDTH)
            if side == "x_block" or not last:
                linear(f"{at}.mlp.fc1", 4 * WIDTH)
                linear(f"{at}.mlp.fc2", WIDTH)
    linear(f"{prefix}final_layer.linear", 4)
    linear(f"{prefix}final_layer.adaLN_modulation.1", 2 * WIDTH)


def conv(name, size=1):
    original[f"{name}.weight"] = torch.randn(2, 2, size, size)
    original[f"{name}.bias"] = torch.randn(2)


def norm(name):
    original[f"{name}.weight"] = torch.randn(2)
    original[f"{name}.bias"] = torch.randn(2)


def resnet(name, shortcut=False):
    for layer in ["norm1", "norm2"]:
        norm(f"{name}.{layer}")
    for layer in ["conv1", "conv2"] + (["nin_shortcut"] if shortcut else []):
        conv(f"{name}.{layer}")


def vae(prefix="first_stage_model."):
    for side, level, sampler, resnets in [("encoder", "down", "downsample", 2), ("decoder", "up", "upsample", 3)]:
        at = prefix + side
        conv(f"{at}.conv_in")
        for i in range(LEVELS):
            for j in range(resnets):
                resnet(f"{at}.{level}.{i}.block.{j}", shortcut=i == 1 and j == 0)
            if (side == "encoder") == (i < LEVELS - 1):
                conv(f"{at}.{level}.{i}.{sampler}.conv")
        resnet(f"{at}.mid.block_1")
        resnet(f"{at}.mid.block_2")
        norm(f"{at}.mid.attn_1.norm")
        for layer in ["q", "k", "v", "proj_out"]:
            conv(f"{at}.mid.attn_1.{layer}")
        norm(f"{at}.norm_out")
        conv(f"{at}.conv_out")


transformer()
vae()
for encoder, name in [("clip_l", "text_model.embeddings.token_embedding.weight"), ("clip_g", "text_projection.weight"), ("t5xxl", "shared.weight")]:
    original[f"text_encoders.{encoder}.transformer.{name}"] = torch.randn(2)

parts = {
    "transformer": convert_sd3_transformer_checkpoint_to_diffusers({k: v for k, v in original.items() if k.startswith("model.diffusion_model.")}),
    "vae": convert_ldm_vae_checkpoint(dict(original), {"down_block_types": ["d"] * LEVELS, "up_block_types": ["u"] * LEVELS}),
}
out = {f"original.{k}": v for k, v in original.items()}
out |= {f"diffusers.{component}.{k}": v for component, tensors in parts.items() for k, v in tensors.items()}
save_file({k: v.contiguous().clone() for k, v in out.items()}, sys.argv[1])
