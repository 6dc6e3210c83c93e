#!/usr/bin/env python3
"""Reference values of vision transformers with random weights: timm's, DINO's own and DreamSim, from their packages.
Usage: vit_reference.py tests/data
Writes vit_reference.safetensors (for timm's and DINO's network the weights, standardised images, tokens and the gradient of the sum of
their squares) and dreamsim/, a tiny folder as the dreamsim package leaves it, with dreamsim/reference.safetensors: images in [0, 1],
embeddings, the distance of the first image to each of the others and that distance's gradient."""
import functools
import pathlib
import shutil
import sys
import tempfile

import dreamsim.feature_extraction.extractor as extractor
import dreamsim.model as package
import torch
from dreamsim.feature_extraction import load_clip_as_dino, load_open_clip_as_dino
from dreamsim.feature_extraction.vision_transformer import DINOHead, VisionTransformer
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from timm.models import VisionTransformer as TimmVisionTransformer

SIDE, PATCH, WIDTH, HEADS, PROJECTION = 32, 8, 12, 3, 8
NORM = functools.partial(torch.nn.LayerNorm, eps=1e-6)
DEPTHS = {"dino": 12, "clip": 2, "open_clip": 3}  # the package takes DINO's class token from block 11


def randomize(module):
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(torch.randn_like(p) * (0.3 if p.dim() > 1 else 0.2) + (1 if "norm" in name and name.endswith("weight") else 0))
    return module.eval()


def dino(depth):
    return VisionTransformer(img_size=[SIDE], patch_size=PATCH, embed_dim=WIDTH, depth=depth, num_heads=HEADS, qkv_bias=True, norm_layer=NORM)


def dump(network, tokens):
    images = torch.randn(2, 3, SIDE, SIDE, requires_grad=True)
    y = tokens(images)
    (gradient,) = torch.autograd.grad(y.square().sum(), images)
    out = {f"weights.{k}": v for k, v in network.state_dict().items()}
    return out | {"images": images.detach(), "tokens": y.detach(), "gradient": gradient}


def vit_variants():
    timm = randomize(TimmVisionTransformer(img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=2, num_heads=HEADS, num_classes=0))
    own = randomize(dino(2))
    variants = {"timm": dump(timm, timm.forward_features), "dino": dump(own, lambda x: own.get_intermediate_layers(x, 1)[0])}
    return {f"{name}.{k}": v.contiguous() for name, values in variants.items() for k, v in values.items()}


def write_backbones(folder):
    """The files that both the package and DreamSim::load read."""
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(randomize(dino(DEPTHS["dino"])).state_dict(), folder / "checkpoints/dino_vitbase16_pretrain.pth")
    for name in ["clip", "open_clip"]:
        net = dino(DEPTHS[name])
        net.pos_drop = torch.nn.LayerNorm(WIDTH)
        state = randomize(net).state_dict() | {"proj": torch.randn(WIDTH, PROJECTION)}
        torch.save({"state_dict": state}, folder / f"{name}_vitb16_pretrain.pth.tar")


def patch_package(folder):
    def hub_dino(*_):
        net = dino(DEPTHS["dino"])
        net.load_state_dict(torch.load(folder / "checkpoints/dino_vitbase16_pretrain.pth"))
        return net

    torch.hub.load, torch.hub.set_dir = hub_dino, lambda _: None
    load_clip_as_dino.vit_base = lambda patch_size: dino(DEPTHS["clip"])
    load_open_clip_as_dino.vit_base = lambda patch_size: dino(DEPTHS["open_clip"])
    head = {f"module.head.{k}".replace("weight_v", "weight"): v for k, v in DINOHead(768, 2048).state_dict().items()}
    torch.save({"student": head}, folder / "dino_vitb16_pretrain.pth")
    package.dreamsim_args["model_config"]["ensemble"]["stride"] = ",".join([str(PATCH)] * 3)
    package.EMBED_DIMS = {k: {"cls": WIDTH, "embedding": PROJECTION} for k in package.EMBED_DIMS}


def write_lora(folder):
    model = package.PerceptualModel(**package.dreamsim_args["model_config"]["ensemble"], device="cpu", load_dir=str(folder))
    model = get_peft_model(model, LoraConfig(r=2, lora_alpha=0.5, lora_dropout=0.3, bias="none", target_modules=["qkv"]))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.copy_(torch.randn_like(p))
    model.save_pretrained(folder / "ensemble_lora")
    (folder / "ensemble_lora/README.md").unlink(missing_ok=True)


def dreamsim(folder):
    shutil.rmtree(folder, ignore_errors=True)
    write_backbones(folder)
    patch_package(folder)
    write_lora(folder)
    model, _ = package.dreamsim(device="cpu", cache_dir=str(folder))
    (folder / "dino_vitb16_pretrain.pth").unlink()
    images = torch.rand(3, 3, SIDE, SIDE, requires_grad=True)
    distances = model(images[:1].expand(2, -1, -1, -1), images[1:])
    (gradient,) = torch.autograd.grad(distances.sum(), images)
    out = {"images": images, "embeddings": model.embed(images), "distances": distances, "gradient": gradient}
    save_file({k: v.detach().contiguous() for k, v in out.items()}, folder / "reference.safetensors")
    print("distances", distances.tolist())


target = pathlib.Path(sys.argv[1])
torch.manual_seed(3)
save_file(vit_variants(), target / "vit_reference.safetensors")
dreamsim(target / "dreamsim")
