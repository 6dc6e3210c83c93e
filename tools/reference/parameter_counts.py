#!/usr/bin/env python3
"""Prints the number of parameters of Stable Diffusion 3's and 3.5's networks in the released sizes, made by diffusers and transformers without
memory. FOLDER holds SD3-medium's configurations (text_encoder/config.json and so on); SD3.5's transformers are stated here.
Usage: parameter_counts.py FOLDER"""
import json
import sys

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

COMMON = dict(sample_size=128, patch_size=2, in_channels=16, out_channels=16, joint_attention_dim=4096, pooled_projection_dim=2048, attention_head_dim=64)
MEDIUM = COMMON | dict(num_layers=24, num_attention_heads=24, caption_projection_dim=1536)
LARGE = COMMON | dict(num_layers=38, num_attention_heads=38, caption_projection_dim=2432)

folder = sys.argv[1]
with torch.device("meta"):
    networks = {
        "sd3 medium": SD3Transformer2DModel(pos_embed_max_size=192, **MEDIUM),
        "sd3.5 medium": SD3Transformer2DModel(pos_embed_max_size=384, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm", **MEDIUM),
        "sd3.5 large": SD3Transformer2DModel(pos_embed_max_size=192, qk_norm="rms_norm", **LARGE),
        "text_encoder": CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(f"{folder}/text_encoder")),
        "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(f"{folder}/text_encoder_2")),
        "text_encoder_3": T5EncoderModel(T5Config.from_pretrained(f"{folder}/text_encoder_3")),
        "vae": AutoencoderKL.from_config(json.load(open(f"{folder}/vae/config.json"))),
    }
for name, network in networks.items():
    print(f"{name:<16} {sum(p.numel() for p in network.parameters())}")
