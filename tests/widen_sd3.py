#!/usr/bin/env python3
"""A Stable Diffusion 3 folder of hundreds of megabytes out of the tiny one: the same files with a wider and deeper transformer and a wider
autoencoder, random weights. Only Python's own library is used, so that a test can make one on the fly.
Usage: widen_sd3.py TINY OUT HEADS LAYERS"""
import array
import json
import pathlib
import random
import re
import shutil
import struct
import sys

HEAD_DIM = 64
POSITIONS = 32
VAE_FACTOR = 8


def header_of(file):
    with file.open("rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
    header.pop("__metadata__", None)
    return {name: entry["shape"] for name, entry in header.items()}


def pattern(scale, seed=random.Random(0)):
    """64 Ki numbers of one scale; tensors repeat them, since drawing each would take minutes here."""
    return array.array("f", (scale * seed.uniform(-1, 1) for _ in range(1 << 16))).tobytes()


def write(file, shapes):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        size = 4 * numel(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise, ones = pattern(1), array.array("f", [1.0])
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            if name.endswith("bias"):
                out.write(bytes(4 * numel(shape)))
            elif len(shape) == 1:
                out.write(ones.tobytes() * shape[0])
            else:
                block = scaled(noise, (3 / numel(shape[1:])) ** 0.5)
                whole, rest = divmod(4 * numel(shape), len(block))
                for _ in range(whole):
                    out.write(block)
                out.write(block[:rest])


def scaled(block, scale, known={}):
    if scale not in known:
        known[scale] = array.array("f", (scale * x for x in array.array("f", block))).tobytes()
    return known[scale]


def numel(shape):
    product = 1
    for side in shape:
        product *= side
    return product


def transformer_shapes(tiny, config, width, layers):
    """Sides that are multiples of the tiny width grow with it; what comes from patches, time and text keeps its own."""
    old, deepest = config["num_attention_heads"] * config["attention_head_dim"], config["num_layers"] - 1
    out = {}
    for name, shape in header_of(tiny).items():
        if name == "pos_embed.pos_embed":
            out[name] = [1, POSITIONS**2, width]
            continue
        grown = [side * width // old for side in shape]
        if name.startswith("proj_out"):
            grown[0] = shape[0]
        if name.startswith(("pos_embed.proj", "context_embedder", "time_text_embed.timestep_embedder.linear_1", "time_text_embed.text_embedder.linear_1")):
            grown[1:] = shape[1:]
        block = re.match(r"transformer_blocks\.(\d+)\.(.*)", name)
        if not block:
            out[name] = grown
        elif int(block[1]) == 0:
            for layer in range(layers - 1):
                out[f"transformer_blocks.{layer}.{block[2]}"] = grown
        elif int(block[1]) == deepest:
            out[f"transformer_blocks.{layers - 1}.{block[2]}"] = grown
    return out


def vae_shapes(tiny, config):
    out = {}
    for name, shape in header_of(tiny).items():
        kept = {"encoder.conv_in": [1], "encoder.conv_out": [0], "decoder.conv_in": [1], "decoder.conv_out": [0]}.get(name.rsplit(".", 1)[0], [])
        out[name] = [side if i in kept or i > 1 else side * VAE_FACTOR for i, side in enumerate(shape)]
    return out


def main():
    tiny, out, heads, layers = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    shutil.copytree(tiny, out, ignore=shutil.ignore_patterns("pipeline.safetensors", "reference.safetensors", "diffusion_pytorch_model.safetensors"))
    weights = "diffusion_pytorch_model.safetensors"

    config = json.loads((tiny / "transformer/config.json").read_text())
    grown = config | {"num_attention_heads": heads, "attention_head_dim": HEAD_DIM, "num_layers": layers, "caption_projection_dim": heads * HEAD_DIM,
                      "pos_embed_max_size": POSITIONS}
    shapes = transformer_shapes(tiny / "transformer" / weights, config, heads * HEAD_DIM, layers)
    (out / "transformer/config.json").write_text(json.dumps(grown))
    write(out / "transformer" / weights, shapes)

    config = json.loads((tiny / "vae/config.json").read_text())
    (out / "vae/config.json").write_text(json.dumps(config | {"block_out_channels": [VAE_FACTOR * c for c in config["block_out_channels"]]}))
    write(out / "vae" / weights, vae_shapes(tiny / "vae" / weights, config))


if __name__ == "__main__":
    main()
