#!/usr/bin/env python3
"""Reference scores and image gradients of ImageReward with random weights, from the image-reward package itself.
Usage: image_reward_reference.py tests/data/image_reward
Writes ImageReward.pt (a state dict as torch.save writes it), vocab.txt (made up here) and reference.safetensors: the
standardised images, the ids and masks of the package's tokenizer, scores, gradients to the images and the tower's tokens.
The package is of 2023, so this script has an environment of its own: tools/reference/image_reward_requirements.txt."""
import importlib.util
import json
import pathlib
import sys
import tempfile
import types

import torch
from safetensors.torch import save_file
from transformers import BertTokenizer

SIDE, PATCH, WIDTH, LAYERS, HEADS = 32, 8, 16, 2, 4
TEXT = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3, "max_position_embeddings": 40,
        "layer_norm_eps": 1e-12, "hidden_act": "gelu", "add_cross_attention": True, "pad_token_id": 0}
MLP = [12, 10, 8, 6]
PROMPTS = ["a photo of a cat", "Ça va? it's 42 dogs, isn't it!", "", "a red cat on the house and a dog " * 6]


def package():
    """The modules of the package, without what its __init__ files import besides (clip, datasets, diffusers)."""
    root = pathlib.Path(importlib.util.find_spec("ImageReward").submodule_search_locations[0])
    for name in ["ImageReward", "ImageReward.models"]:
        module = types.ModuleType(name)
        module.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = module
    return importlib.import_module("ImageReward.ImageReward"), importlib.import_module("ImageReward.models.BLIP.blip_pretrain")


def tiny_model(tokenizer):
    reward, pretrain = package()
    from ImageReward.models.BLIP.vit import VisionTransformer
    pretrain.init_tokenizer = lambda: tokenizer
    pretrain.create_vit = lambda *_: (VisionTransformer(img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS), WIDTH)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
        json.dump(TEXT | {"vocab_size": len(tokenizer)}, config)
        config.flush()
        model = reward.ImageReward(med_config=config.name)
    sizes = [TEXT["hidden_size"], *MLP, 1]
    layers = [torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
    model.mlp.layers = torch.nn.Sequential(layers[0], torch.nn.Dropout(), layers[1], torch.nn.Dropout(), layers[2], torch.nn.Dropout(), *layers[3:])
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * (0.4 if p.dim() > 1 else 0.2) + (1 if "norm" in name.lower() and name.endswith("weight") else 0))
    return model.eval()


folder = pathlib.Path(sys.argv[1])
torch.manual_seed(7)
tokenizer = BertTokenizer(folder / "vocab.txt")
tokenizer.add_special_tokens({"bos_token": "[DEC]"})
tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
model = tiny_model(tokenizer)
text = tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=35, return_tensors="pt")
images = torch.randn(len(PROMPTS), 3, SIDE, SIDE, requires_grad=True)
scores = model.score_gard(text.input_ids, text.attention_mask, images)
(gradient,) = torch.autograd.grad(scores.sum(), images)
out = {"images": images.detach(), "ids": text.input_ids, "mask": text.attention_mask, "scores": scores.detach().squeeze(1), "gradient": gradient,
       "tokens": model.blip.visual_encoder(images).detach(), "prompts": torch.tensor(list("\0".join(PROMPTS).encode()), dtype=torch.uint8)}
save_file({k: v.contiguous() for k, v in out.items()}, folder / "reference.safetensors")
torch.save(model.state_dict(), folder / "ImageReward.pt")
print(scores.detach().squeeze(1))
