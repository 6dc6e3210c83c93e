#!/usr/bin/env python3
"""Reference values of image resizing from PyTorch and Pillow, and how far an 8-bit Pillow resize is from a float one.
Usage: resize_reference.py values src/vggflow/ops/testdata/resize_reference.safetensors
       resize_reference.py report PHOTO...    # Markdown table of docs/rewards.md
`values`: a float image, its sizes by F.interpolate for each filter with the gradient of a cotangent, and an 8-bit image with Pillow's result.
`report`: each photo is cut to a square of 512, 768 and 1024 pixels (enlarged if need be), then made 224 by 224 by Pillow on 8 bits and by
interpolate on floats; differences are in levels of 255, without and with a clip of the floats to the range."""
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
SIZES = {"down": (5, 7), "up": (31, 23), "mixed": (9, 32)}  # of 19 x 17 pixels


def values(target):
    torch.manual_seed(5)
    image = torch.rand(1, 2, 19, 17)
    out = {"image": image}
    for name, size in SIZES.items():
        cotangent = torch.randn(1, 2, *size)
        out[f"{name}.cotangent"] = cotangent
        for mode in FILTERS:
            for antialias in [False, True]:
                x = image.clone().requires_grad_(True)
                y = F.interpolate(x, size, mode=mode, align_corners=False, antialias=antialias)
                (gradient,) = torch.autograd.grad((y * cotangent).sum(), x)
                key = f"{name}.{mode}.{'antialias' if antialias else 'plain'}"
                out |= {key: y.detach(), key + ".gradient": gradient}
    eight = (torch.rand(1, 3, 40, 30) * 255).round().to(torch.uint8)
    out["eight"] = eight
    for mode, pillow in FILTERS.items():
        resized = Image.fromarray(eight[0].permute(1, 2, 0).numpy()).resize((11, 13), pillow)
        out[f"eight.{mode}"] = torch.from_numpy(np.array(resized)).permute(2, 0, 1).unsqueeze(0)
    save_file({k: v.contiguous() for k, v in out.items()}, target)


def report(photos):
    print("| photo | side | filter | mean | 99.9 % | largest | largest, clipped |\n|---|---|---|---|---|---|---|")
    for photo in photos:
        full = Image.open(photo).convert("RGB")
        for side in [512, 768, 1024]:
            edge = min(full.size)
            image = full.crop((0, 0, edge, edge)).resize((side, side), Image.Resampling.LANCZOS)
            x = torch.from_numpy(np.array(image)).permute(2, 0, 1).unsqueeze(0).float() / 255
            for mode, pillow in FILTERS.items():
                want = torch.from_numpy(np.array(image.resize((224, 224), pillow))).permute(2, 0, 1).unsqueeze(0).float()
                got = F.interpolate(x, (224, 224), mode=mode, align_corners=False, antialias=True) * 255
                gap, clipped = (got - want).abs(), (got.clamp(0, 255) - want).abs()
                figures = [gap.mean(), gap.flatten().kthvalue(int(0.999 * gap.numel())).values, gap.max(), clipped.max()]
                print(f"| {photo.split('/')[-1]} | {side} | {mode} | " + " | ".join(f"{v:.2f}" for v in figures) + " |")


if sys.argv[1] == "values":
    values(sys.argv[2])
else:
    report(sys.argv[2:])
