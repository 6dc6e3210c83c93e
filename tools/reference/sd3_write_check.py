#!/usr/bin/env python3
"""Opens what `vggflow convert` and `vggflow export --format merged` wrote with diffusers and holds it against the model it came from.

  vggflow convert MODEL one.safetensors; vggflow convert one.safetensors folder --model-config MODEL
  vggflow export LORA merged --format merged --model MODEL
  python tools/reference/sd3_write_check.py MODEL --folder folder --single one.safetensors --lora LORA --merged merged

A folder must hold the model's own weights, bit for bit, and run as a pipeline; a single file must become the model's transformer by diffusers' own
converter; a merged folder's transformer must give what diffusers gives with the adapter loaded, to 1e-4.
"""
import argparse
import sys

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("--folder")
parser.add_argument("--single")
parser.add_argument("--lora")
parser.add_argument("--merged")
arguments = parser.parse_args()
bad = 0


def report(name, error, bound):
    global bad
    bad += error > bound
    print(f"{'ok ' if error <= bound else 'BAD'} {name}: {error:.2e} (bound {bound:.0e})")


def worst(a, b):
    if sorted(a) != sorted(b):
        return float("inf")
    return max((a[k].float() - b[k].float()).abs().max().item() for k in a)


def output(transformer):
    c = transformer.config
    generator = torch.Generator().manual_seed(0)
    side = min(c.sample_size, 32)
    x = torch.randn(2, c.in_channels, side, side, generator=generator)
    context = torch.randn(2, 5, c.joint_attention_dim, generator=generator)
    pooled = torch.randn(2, c.pooled_projection_dim, generator=generator)
    with torch.no_grad():
        return transformer(x, timestep=torch.tensor([250.0, 800.0]), encoder_hidden_states=context, pooled_projections=pooled).sample


pipeline = StableDiffusion3Pipeline.from_pretrained(arguments.model, torch_dtype=torch.float32)
base = output(pipeline.transformer)
if arguments.folder:
    other = StableDiffusion3Pipeline.from_pretrained(arguments.folder, torch_dtype=torch.float32)
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
        if getattr(pipeline, part) is not None:
            report(f"folder's {part}", worst(getattr(pipeline, part).state_dict(), getattr(other, part).state_dict()), 0)
if arguments.single:
    state = convert_sd3_transformer_checkpoint_to_diffusers(load_file(arguments.single))
    other = SD3Transformer2DModel.from_config(pipeline.transformer.config)
    other.load_state_dict(state, strict=True)
    report("single file's transformer", worst(pipeline.transformer.state_dict(), other.state_dict()), 0)
if arguments.lora:
    pipeline.load_lora_weights(arguments.lora)
    adapted = output(pipeline.transformer)
    scale = adapted.abs().max().item()
    print(f"    the adapter changes the output by {(adapted - base).abs().max().item() / scale:.2e}")
    merged = SD3Transformer2DModel.from_pretrained(arguments.merged, subfolder="transformer", torch_dtype=torch.float32)
    report("merged transformer", (output(merged) - adapted).abs().max().item() / scale, 1e-4)
sys.exit(1 if bad else 0)
