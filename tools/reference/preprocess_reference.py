#!/usr/bin/env python3
"""Reference values of image preprocessing on float tensors: torchvision's Resize and CenterCrop (open_clip, OpenAI), transformers'
CLIPImageProcessor and hpsv2's ResizeMaxSize, each with CLIP's standardisation, and the gradient of a cotangent.
Usage: preprocess_reference.py tests/data/preprocess_reference.safetensors"""
import importlib.util
import pathlib
import sys

import torch
import torchvision.transforms as T
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import save_file
from transformers import CLIPImageProcessor

SIZE = 12
IMAGES = {"wide": (20, 25), "tall": (41, 17)}  # after resizing, wide is 3 pixels too wide: half of that is rounded in two ways


def hpsv2_resize():
    package = pathlib.Path(importlib.util.find_spec("open_clip").origin).parent.parent / "hpsv2/src/open_clip/transform.py"
    spec = importlib.util.spec_from_file_location("open_clip.hpsv2_transform", package)  # hpsv2 itself wants the network when imported
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ResizeMaxSize(SIZE, fill=0)


standardise = T.Normalize(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
processor = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}, do_rescale=False)
longest = hpsv2_resize()
FITS = {
    "torchvision": lambda x: standardise(T.CenterCrop(SIZE)(T.Resize(SIZE, T.InterpolationMode.BICUBIC, antialias=True)(x))),
    "transformers": lambda x: processor(list(x), return_tensors="pt")["pixel_values"],
    "hpsv2": lambda x: torch.stack([standardise(longest(image)) for image in x]),
    "stretch": lambda x: standardise(T.Resize((SIZE, SIZE), T.InterpolationMode.BICUBIC, antialias=True)(x)),
}

torch.manual_seed(6)
out = {}
cotangent = torch.randn(1, 3, SIZE, SIZE)
for shape, size in IMAGES.items():
    image = torch.rand(1, 3, *size)
    out[shape] = image
    for name, fit in FITS.items():
        x = image.clone().requires_grad_(True)
        y = fit(x)
        out[f"{shape}.{name}"] = y.detach()
        out[f"{shape}.{name}.gradient"] = torch.autograd.grad((y * cotangent).sum(), x)[0]
save_file({k: v.contiguous() for k, v in (out | {"cotangent": cotangent}).items()}, sys.argv[1])
