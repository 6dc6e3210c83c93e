#!/usr/bin/env python3
"""A full-size Stable Diffusion 3 folder in diffusers' layout with random weights, for tests and measurements of memory and time.
Usage: make_random_sd3.py --config-dir CONFIGS --tokenizers TOKENIZERS --out FOLDER [--dtype bf16] [--layers N] [--t5]
CONFIGS holds model_index.json and transformer/, vae/, text_encoder{,_2,_3}/, scheduler/, tokenizer{,_2}/ with their JSON files;
TOKENIZERS holds clip/{vocab.json,merges.txt} and t5/spiece.model. Tensor names and shapes come from diffusers and transformers on the
meta device; weights are drawn one at a time (torch's default scales, a seed a tensor name) and written at once, so memory stays below
1 GB. Without --t5 the third encoder is null in model_index.json, which diffusers allows."""
import argparse
import json
import pathlib
import shutil
import struct
import zlib

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

DTYPES = {"bf16": (torch.bfloat16, "BF16"), "fp16": (torch.float16, "F16"), "fp32": (torch.float32, "F32")}


def values(name, shape, config):
    """Ones for norms' gains, zeros for biases, the sin-cos grid, 0.02 for embeddings, else uniform of variance 1 / fan-in."""
    if name == "pos_embed.pos_embed":
        side = config["pos_embed_max_size"]
        grid = get_2d_sincos_pos_embed(shape[-1], side, base_size=config["sample_size"] // config["patch_size"], output_type="pt")
        return grid.reshape(shape)
    if name.endswith("bias"):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if "embedding" in name or name == "shared.weight":
        return torch.empty(shape).normal_(std=0.02, generator=generator)
    bound = (3 / torch.Size(shape[1:]).numel()) ** 0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def write_safetensors(path, shapes, config, dtype):
    torch_dtype, dtype_name = DTYPES[dtype]
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        size = torch.Size(shape).numel() * torch_dtype.itemsize
        header[name] = {"dtype": dtype_name, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            out.write(values(name, shape, config).to(torch_dtype).contiguous().view(torch.uint8).numpy().tobytes())
    return offset


def shapes_on_meta(make):
    with torch.device("meta"):
        model = make()
    tied = {"encoder.embed_tokens.weight"}  # T5's second name of shared.weight
    return {k: v.shape for k, v in model.state_dict().items() if k not in tied}


def write_network(source, out, part, file, make, args):
    config = json.loads((source / part / "config.json").read_text())
    if part == "transformer" and args.layers:
        config["num_layers"] = args.layers
    folder = out / part
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shapes = shapes_on_meta(lambda: make(config))
    size = write_safetensors(folder / file, shapes, config, args.dtype)
    print(f"{part}: {len(shapes)} tensors, {sum(torch.Size(s).numel() for s in shapes.values()) / 1e6:.1f} M values, {size / 1e9:.2f} GB", flush=True)


def copy_files(source, names, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(source / name, folder / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-dir", type=pathlib.Path, required=True)
    parser.add_argument("--tokenizers", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--layers", type=int, default=0, help="transformer blocks; 0: as configured")
    parser.add_argument("--t5", action="store_true", help="the third encoder as well (4.8 B parameters)")
    args = parser.parse_args()
    source, out = args.config_dir, args.out
    out.mkdir(parents=True, exist_ok=True)

    index = json.loads((source / "model_index.json").read_text())
    if not args.t5:
        index["text_encoder_3"] = index["tokenizer_3"] = [None, None]
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    copy_files(source / "scheduler", ["scheduler_config.json"], out / "scheduler")
    for part in ("tokenizer", "tokenizer_2"):
        copy_files(source / part, ["special_tokens_map.json", "tokenizer_config.json"], out / part)
        copy_files(args.tokenizers / "clip", ["vocab.json", "merges.txt"], out / part)

    write_network(source, out, "transformer", "diffusion_pytorch_model.safetensors", SD3Transformer2DModel.from_config, args)
    write_network(source, out, "vae", "diffusion_pytorch_model.safetensors", AutoencoderKL.from_config, args)
    for part in ("text_encoder", "text_encoder_2"):
        write_network(source, out, part, "model.safetensors", lambda c: CLIPTextModelWithProjection(CLIPTextConfig(**c)), args)
    if args.t5:
        copy_files(args.tokenizers / "t5", ["spiece.model"], out / "tokenizer_3")
        write_network(source, out, "text_encoder_3", "model.safetensors", lambda c: T5EncoderModel(T5Config(**c)), args)


if __name__ == "__main__":
    main()
