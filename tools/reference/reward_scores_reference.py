#!/usr/bin/env python3
"""Stored scores for `vggflow check --reward`: models/reward-scores.json, in float64 and written independently of the C++ code.

The images are check_images() of src/vggflow/rewards/reward_check.cpp, whole numbers from a formula. colorfulness is Hasler and Suesstrunk's
M3 in numpy; emoji-clip is its network in torch.nn.functional, from models/emoji-clip. Usage: reward_scores_reference.py [EMOJI_CLIP_FOLDER]
"""
import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

SIZE, PROMPTS = 32, ["red heart", "ghost", "blue heart", "red apple"]


def check_images(s):
    y, x = np.mgrid[0:s, 0:s]
    ramps = [255 * x // (s - 1), 255 * y // (s - 1), 128 + 0 * x]
    even = (x // 4 + y // 4) % 2 == 0
    checker = [np.where(even, a, b) for a, b in ((255, 16), (64, 32), (0, 192))]
    noise = [(7 * x * x + 13 * y * y + 3 * x * y + 29 * c) % 256 for c in range(3)]
    grey = [255 * (x + y) // (2 * s - 2)] * 3
    return np.array([ramps, checker, noise, grey]) / 255


def colorfulness(image):
    r, g, b = 255 * image.reshape(3, -1)
    rg, yb = r - g, (r + g) / 2 - b
    return np.sqrt(rg.var() + yb.var() + 1e-6) + 0.3 * np.sqrt(rg.mean() ** 2 + yb.mean() ** 2 + 1e-6)


def emoji_clip(images, prompts, folder):
    w = {k: v.double() for k, v in load_file(folder / "model.safetensors").items()}
    words = (folder / "vocabulary.txt").read_text().split()[2:]

    def norm(x, name):
        return F.silu(F.group_norm(x, 8, w[name + ".weight"], w[name + ".bias"], 1e-5))

    def conv(x, name, stride=1):
        return F.conv2d(x, w[name + ".weight"], w[name + ".bias"], stride=stride, padding=1)

    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w[name + ".bias"])

    x = F.avg_pool2d((torch.from_numpy(images) - 1) * 2, 2)
    for i in range(3):
        stage = f"image.stages.{i}."
        x = conv(x, stage + "transition", 1 if i == 0 else 2)
        h = conv(norm(x, stage + "block.norm1"), stage + "block.conv1")
        x = x + conv(norm(h, stage + "block.norm2"), stage + "block.conv2")
    image = F.normalize(linear(norm(x, "image.norm_out").mean((2, 3)), "image.projection"), dim=1)
    bags = torch.stack([torch.stack([w["text.word_embedding.weight"][1 + words.index(word)] for word in p.split()]).mean(0) for p in prompts])
    text = F.normalize(linear(F.silu(linear(bags, "text.hidden")), "text.projection"), dim=1)
    return ((image * text).sum(1) * w["logit_scale"].exp().clamp(max=100)).numpy()


root = pathlib.Path(__file__).resolve().parents[2]
folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "models/emoji-clip"
images = check_images(SIZE)
scores = {"colorfulness": [colorfulness(image) for image in images], "emoji-clip": emoji_clip(images, PROMPTS, folder)}
out = {"source": "tools/reference/reward_scores_reference.py", "images": "check_images() of src/vggflow/rewards/reward_check.cpp", "size": SIZE,
       "prompts": PROMPTS, "scores": {name: [round(float(v), 9) for v in values] for name, values in scores.items()}}
(root / "models/reward-scores.json").write_text(json.dumps(out, indent=1) + "\n")
