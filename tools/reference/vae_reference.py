#!/usr/bin/env python3
"""Reference values of the autoencoders.

vae_reference.py random OUT.safetensors           diffusers' AutoencoderKL in a tiny size with random weights (prefix kl.), and TAESD3 as restated
                                                  below, 4 channels wide with random weights (prefix taesd.)
vae_reference.py taesd3 FOLDER OUT.safetensors    the same of TAESD3 with the real weights in FOLDER, which are not written; prints the PSNR of
                                                  round trips of the images that the C++ test makes as well
vae_reference.py psnr FOLDER IMAGES.zip           prints the PSNR of TAESD3's round trip of photographs, upsampled to 64 pixels
Each: output, gradient to the input for a random cotangent, and the directional derivative (torch.func.jvp) of the decoder; output and gradient of
the encoder; and both outputs and the decoder's gradient of the network in bf16.
"""
import copy
import io
import sys
import zipfile

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

KL = dict(in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(4, 8, 8, 8), layers_per_block=2, norm_num_groups=2,
          down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, use_quant_conv=False, use_post_quant_conv=False,
          scaling_factor=1.5305, shift_factor=0.0609, sample_size=32)


class Block(nn.Module):
    """relu(x + three convolutions)."""

    def __init__(self, width):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
                                  nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x):
        return F.relu(self.conv(x) + x)


class SoftClamp(nn.Module):
    def forward(self, x):
        return torch.tanh(x / 3) * 3


def taesd_decoder(width, latent_channels=16):
    layers = [SoftClamp(), nn.Conv2d(latent_channels, width, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        layers += [Block(width), Block(width), Block(width), nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, Block(width), nn.Conv2d(width, 3, 3, padding=1))


def taesd_encoder(width, latent_channels=16):
    layers = [nn.Conv2d(3, width, 3, padding=1), Block(width)]
    for _ in range(3):
        layers += [nn.Conv2d(width, width, 3, padding=1, stride=2, bias=False), Block(width), Block(width), Block(width)]
    return nn.Sequential(*layers, nn.Conv2d(width, latent_channels, 3, padding=1))


def decoder_values(decode, latents):
    """Output, gradient and directional derivative of decode at `latents`."""
    direction = torch.randn_like(latents)
    leaf = latents.clone().requires_grad_(True)
    out = decode(leaf)
    cotangent = torch.randn_like(out)
    # Forward mode's group_norm wants contiguous inputs, which the values do not depend on.
    plain = F.group_norm
    F.group_norm = lambda x, *args, **kwargs: plain(x.contiguous(), *args, **kwargs)
    with sdpa_kernel(SDPBackend.MATH):
        _, tangent = torch.func.jvp(decode, (latents,), (direction,))
    F.group_norm = plain
    return {"latents": latents, "direction": direction, "cotangent": cotangent, "decoded": out.detach(),
            "grad": torch.autograd.grad(out, leaf, cotangent)[0], "tangent": tangent}


def encoder_values(encode, image):
    """Output and gradient of encode at `image`."""
    leaf = image.clone().requires_grad_(True)
    out = encode(leaf)
    cotangent = torch.randn_like(out)
    return {"encode_cotangent": cotangent, "encoded": out.detach(), "encode_grad": torch.autograd.grad(out, leaf, cotangent)[0]}


def bf16_values(decode, encode, values):
    """Outputs and the decoder's gradient of a network that was converted to bf16."""
    latents = values["latents"].bfloat16().requires_grad_(True)
    decoded = decode(latents)
    grad = torch.autograd.grad(decoded, latents, values["cotangent"].bfloat16())[0]
    with torch.no_grad():
        return {"decoded_bf16": decoded.detach(), "grad_bf16": grad, "encoded_bf16": encode(values["image"].bfloat16())}


def kl():
    from diffusers import AutoencoderKL

    torch.manual_seed(11)
    net = AutoencoderKL(**KL).eval()
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(1 + 0.2 * torch.randn_like(p) if "norm" in name and name.endswith("weight") else 0.15 * torch.randn_like(p))
    config = net.config
    decode = lambda z: net.decode(z / config.scaling_factor + config.shift_factor, return_dict=False)[0]
    out = {f"weights.{k}": v.detach() for k, v in net.named_parameters()} | decoder_values(decode, torch.randn(2, 4, 4, 3))
    image = torch.rand(2, 3, 32, 24) * 2 - 1
    with torch.no_grad():
        posterior = net.encode(image).latent_dist
        out |= {"image": image, "mean": posterior.mean, "logvar": posterior.logvar}
        net.enable_tiling()
        wide = torch.randn(1, 4, 9, 7)
        out |= {"wide": wide, "tiled": decode(wide)}
    net.disable_tiling()
    encode = lambda x: (net.encode(x).latent_dist.mode() - config.shift_factor) * config.scaling_factor
    out |= encoder_values(encode, image)
    net.to(torch.bfloat16)
    return out | bf16_values(decode, encode, out)


def taesd(encoder, decoder, side):
    out = decoder_values(decoder, torch.randn(1, 16, side, side))
    out["image"] = torch.rand(1, 3, 8 * side, 8 * side)
    out |= encoder_values(encoder, out["image"])
    return out | bf16_values(copy.deepcopy(decoder).bfloat16(), copy.deepcopy(encoder).bfloat16(), out)


def prefixed(prefix, tensors):
    return {prefix + k: v.contiguous().clone() for k, v in tensors.items()}


def psnr(a, b):
    return (-10 * torch.log10(((a - b) ** 2).mean(dim=(1, 2, 3)))).tolist()


def real_networks(folder):
    nets = taesd_encoder(64), taesd_decoder(64)
    for net, name in zip(nets, ("encoder", "decoder")):
        net.load_state_dict({k: v.float() for k, v in load_file(f"{folder}/taesd3_{name}.safetensors").items()})
    return nets


def synthetic_images():
    """Four 64-pixel images: colour waves of growing frequency with a soft disc; the C++ test computes the same."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    images = []
    for k in range(4):
        f = 0.05 * (k + 1)
        channels = [0.5 + 0.3 * torch.sin(f * x + 0.7 * c) * torch.cos(f * y - 0.4 * c) for c in range(3)]
        disc = torch.sigmoid((12 + 3 * k - torch.sqrt((x - 30) ** 2 + (y - 34) ** 2)) / 1.5)
        images.append(torch.stack([c * (1 - disc) + disc * v for c, v in zip(channels, (0.85, 0.2 + 0.15 * k, 0.3))]))
    return torch.stack(images)


def round_trip(nets, images):
    with torch.no_grad():
        return psnr(nets[1](nets[0](images)).clamp(0, 1), images)


if sys.argv[1] == "random":
    torch.manual_seed(12)
    nets = taesd_encoder(4), taesd_decoder(4)
    with torch.no_grad():
        for p in [*nets[0].parameters(), *nets[1].parameters()]:
            p.copy_(0.2 * torch.randn_like(p))
    weights = {f"encoder.{k}": v.detach() for k, v in nets[0].named_parameters()} | {f"decoder.{k}": v.detach() for k, v in nets[1].named_parameters()}
    small = prefixed("taesd.", taesd(*nets, 2)) | prefixed("taesd.weights.", weights)
    save_file(prefixed("kl.", kl()) | small, sys.argv[2])
elif sys.argv[1] == "taesd3":
    torch.manual_seed(13)
    nets = real_networks(sys.argv[2])
    save_file(prefixed("", taesd(*nets, 4)), sys.argv[3])
    print("synthetic images, PSNR in dB:", [f"{v:.2f}" for v in round_trip(nets, synthetic_images())])
else:
    from PIL import Image

    nets = real_networks(sys.argv[2])
    values = []
    with zipfile.ZipFile(sys.argv[3]) as archive:
        for name in archive.namelist()[::20]:
            image = Image.open(io.BytesIO(archive.read(name))).convert("RGB").resize((64, 64), Image.BICUBIC)
            pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(64, 64, 3).permute(2, 0, 1)[None] / 255
            values += round_trip(nets, pixels)
    values = torch.tensor(values)
    print(f"{len(values)} photographs at 64 px: PSNR {values.mean():.2f} dB, quartiles {values.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()}")
