#!/usr/bin/env python3
"""diffusers' outputs of a whole Stable Diffusion 3 folder: one velocity in fp32 and in bf16, and one decoded image, as FOLDER/reference.safetensors.
Usage: full_size_reference.py FOLDER. The test `FullSize` of models_slow_test holds ours against it. At most one network is in memory
at a time: 9 GB for SD3-medium. Values are drawn here, for 256 x 256 pixels and 93 tokens; no weight is kept."""
import pathlib
import sys

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from safetensors.torch import save_file


def velocity(folder, dtype, inputs):
    network = SD3Transformer2DModel.from_pretrained(folder / "transformer", torch_dtype=dtype, low_cpu_mem_usage=True).eval()
    cast = {k: v if k == "timestep" else v.to(dtype) for k, v in inputs.items()}
    return network(**cast, return_dict=False)[0].float().contiguous()


@torch.no_grad()
def main():
    folder = pathlib.Path(sys.argv[1])
    generator = torch.Generator().manual_seed(7)
    inputs = {
        "hidden_states": torch.randn(2, 16, 32, 32, generator=generator),
        "encoder_hidden_states": torch.randn(2, 93, 4096, generator=generator),
        "pooled_projections": torch.randn(2, 2048, generator=generator),
        "timestep": torch.tensor([875.0, 125.0]),
    }
    out = {**inputs, "velocity_fp32": velocity(folder, torch.float32, inputs), "velocity_bf16": velocity(folder, torch.bfloat16, inputs)}
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
    out["z"] = torch.randn(1, 16, 32, 32, generator=generator)
    out["image"] = vae.decode(out["z"], return_dict=False)[0].contiguous()
    for name, value in out.items():
        print(name, tuple(value.shape), f"rms {value.float().pow(2).mean().sqrt():.4g}")
    save_file(out, folder / "reference.safetensors")


if __name__ == "__main__":
    main()
