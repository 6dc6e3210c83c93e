#!/usr/bin/env python3
"""Stored scores for `vggflow check --reward`: models/reward-scores.json, in float64 and written independently of the C++ code.

The images are check_images() of src/vggflow/rewards/reward_check.cpp, whole numbers from a formula. colorfulness is Hasler and Suesstrunk's
M3 in numpy; emoji-clip is its network in torch.nn.functional, from models/emoji-clip; jpeg is Pillow's; NIMA and mobilenet-class are timm's networks
with the weights in ASSETS (conv_reference.py). Scores are keyed by the weights' hash, that of src/vggflow/io/content_hash.h.
Usage: reward_scores_reference.py ASSETS
"""
import io
import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
from conv_reference import class_score, halves, mobilenet_v2_net, nima_net, nima_score, square
from PIL import Image
from safetensors.torch import load_file

SIZE, PROMPTS = 32, ["red heart", "ghost", "blue heart", "red apple"]
CLASS_PROMPTS = [f"a photo of a {name}" for name in ("horse", "ship", "cat", "truck")]


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


def content_hash(tensors):
    """FNV-1a over words of eight bytes, the high half folded in: heads "name dtype shape" and bytes, in the order of names."""
    value, mask = 0xCBF29CE484222325, 2 ** 64 - 1
    names = {torch.float32: "Float", torch.float16: "Half"}
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        head = f"{name} {names[tensor.dtype]} {' '.join(map(str, tensor.shape))}\n".encode()
        for data in (head, tensor.numpy().tobytes()):
            data += bytes(8 - len(data) % 8)  # a last word even where nothing is left for it
            for word in np.frombuffer(data, "<u8").tolist():
                value = (value ^ word) * 0x100000001B3 & mask
                value ^= value >> 32
    return f"{value:016x}"


def jpeg_bytes(image, quality=95):
    file = io.BytesIO()
    Image.fromarray((image * 255).round().astype(np.uint8).transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
    return len(file.getvalue())


def entry(values, weights=None, **more):
    hashed = {"weights": content_hash(weights)} if weights else {}
    return {"values": [round(float(v), 9) for v in values]} | hashed | more


root = pathlib.Path(__file__).resolve().parents[2]
assets = pathlib.Path(sys.argv[1])
images = check_images(SIZE)
stretched = "stretched to 224 x 224, bilinear, antialiased; pixels to [-1, 1]"
clip = root / "models/emoji-clip"
scores = {"colorfulness": entry([colorfulness(image) for image in images]),
          "emoji-clip": entry(emoji_clip(images, PROMPTS, clip), {k: v.float() for k, v in load_file(clip / "model.safetensors").items()}),
          "jpeg": entry([jpeg_bytes(image) for image in images], preprocessing="8-bit pixels at their own size, JPEG of quality 95")}
with torch.no_grad():
    x = torch.from_numpy(images)
    weights = load_file(assets / "mobilenet_v2/mobilenet_v2.safetensors")
    values = class_score(mobilenet_v2_net(weights)(halves(square(x, 224))), [prompt.split()[-1] for prompt in CLASS_PROMPTS], 1)
    scores["mobilenet-class"] = entry(values, weights, prompts=CLASS_PROMPTS, preprocessing=stretched)
    for kind in ("aesthetic", "technical"):
        weights = load_file(assets / f"nima/nima_{kind}.safetensors")
        scores[f"nima-{kind}"] = entry(nima_score(nima_net(weights), x, 224), weights, preprocessing=stretched)
out = {"source": "tools/reference/reward_scores_reference.py", "images": "check_images() of src/vggflow/rewards/reward_check.cpp", "size": SIZE,
       "prompts": PROMPTS, "scores": scores}
(root / "models/reward-scores.json").write_text(json.dumps(out, indent=1) + "\n")
