#!/usr/bin/env python3
"""A tiny Stable Diffusion 3 in diffusers' layout with random weights, and what diffusers' StableDiffusion3Pipeline makes of it from given noise.
Usage: sd3_pipeline_reference.py tests/data/sd3_tiny
The folder holds the tokenizers and text encoders that text_encoder_reference.py wrote; this adds transformer/, vae/, scheduler/ and
model_index.json, and pipeline.safetensors: for each case the noise, the scheduler's sigmas, the latents after 20 steps and the images."""
import json
import pathlib
import sys

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from safetensors.torch import save_file

PROMPTS = ["a photo of a cat", "it is 42 dogs"]
T5_TOKENS = 20


def randomize(model, scale):
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(scale * torch.randn_like(p) + (1 if p.dim() == 1 and scale < 0.12 else 0))
    return model.eval()


def run(pipe, name, noise, out, **settings):
    settings = {"num_inference_steps": 20, "max_sequence_length": T5_TOKENS, "latents": noise.clone()} | settings
    latents = pipe(PROMPTS, output_type="latent", **settings).images
    images = pipe(PROMPTS, output_type="pt", **settings).images
    out |= {f"{name}.noise": noise, f"{name}.sigmas": pipe.scheduler.sigmas.clone(), f"{name}.latents": latents, f"{name}.images": images}


folder = pathlib.Path(sys.argv[1])
torch.manual_seed(11)
transformer = randomize(SD3Transformer2DModel(sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
                                              num_attention_heads=2, joint_attention_dim=24, caption_projection_dim=16, pooled_projection_dim=20,
                                              pos_embed_max_size=12), 0.25)
vae = randomize(AutoencoderKL(in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
                              block_out_channels=[4, 8], layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=16,
                              scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False), 0.1)
transformer.save_pretrained(folder / "transformer")
vae.save_pretrained(folder / "vae")
FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
index = {"_class_name": "StableDiffusion3Pipeline", "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"], "transformer": ["diffusers", "SD3Transformer2DModel"],
         "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModelWithProjection"], "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
         "text_encoder_3": ["transformers", "T5EncoderModel"], "tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"],
         "tokenizer_3": ["transformers", "T5TokenizerFast"]}
(folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")

pipe = StableDiffusion3Pipeline.from_pretrained(folder)
pipe.set_progress_bar_config(disable=True)
out = {}
run(pipe, "guided", torch.randn(2, 4, 8, 8), out, guidance_scale=4.5, negative_prompt=["a dog"] * 2, height=16, width=16)
run(pipe, "wide", torch.randn(2, 4, 8, 12), out, guidance_scale=1.0, height=16, width=24)
pipe.text_encoder_3 = None
run(pipe, "without_t5", torch.randn(2, 4, 8, 8), out, guidance_scale=7.0, height=16, width=16)
for name, value in out.items():
    print(f"{name}: {tuple(value.shape)} mean {value.mean():.4f} sd {value.std():.4f}")
save_file({k: v.detach().float().contiguous() for k, v in out.items()}, folder / "pipeline.safetensors")
