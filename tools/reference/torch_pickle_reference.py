#!/usr/bin/env python3
"""Files of torch.save for src/vggflow/io/torch_pickle_test.cpp, and sums of a real one.

torch_pickle_reference.py make FOLDER   writes protocol2.pth and protocol4.pth: a nested dictionary with every dtype, a transposed view, tensors
                                        that share a storage, a parameter, an empty tensor, and leaves that are no tensors
torch_pickle_reference.py lora FOLDER   writes lora_state_dict.bin and .pt: a LoRA of two layers as kohya's names have it, flat, and as PEFT's
                                        have it, nested and as parameters
torch_pickle_reference.py sums FILE     prints name, shape, sum and sum of absolute values (float64) of every tensor
"""
import collections
import pathlib
import sys

import torch

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]


def contents():
    base = torch.arange(12, dtype=torch.float32)
    state = collections.OrderedDict()
    state["whole"] = base.view(3, 4)
    state["transposed"] = base.view(3, 4).t()
    state["part"] = base[5:9]
    state["parameter"] = torch.nn.Parameter(torch.full((2, 2), 0.5))
    state["empty"] = torch.empty(0, 7)
    state["scalar"] = torch.tensor(3.25)
    state["bool"] = torch.tensor([True, False, True])
    for dtype in DTYPES:
        state[str(dtype).removeprefix("torch.")] = torch.arange(5).to(dtype)
    state._metadata = {"": {"version": 1}}
    return {"state_dict": state, "step": 70000000000, "lr": 1e-3, "tags": ["a", ("b", None)], "done": False, 7: torch.ones(1)}


def lora(down, up, wrap):
    a, b = torch.arange(32, dtype=torch.float32).view(2, 16) / 8, torch.ones(16, 2)
    names = ["transformer_blocks.0.attn.to_q", "transformer_blocks.1.attn.to_out.0"]
    out = {}
    for name in names:
        out |= {name + down: wrap(a.clone()), name + up: wrap(b.clone()), name + ".alpha": torch.tensor(1.0)}
    return out


if sys.argv[1] == "lora":
    folder = pathlib.Path(sys.argv[2])
    kohya = {"lora_unet_" + k.replace(".", "_", k.count(".") - (1 if k.endswith(".alpha") else 2)): v
             for k, v in lora(".lora_down.weight", ".lora_up.weight", torch.clone).items()}
    torch.save(kohya, folder / "lora_state_dict.pt")
    torch.save({"transformer": collections.OrderedDict(lora(".lora_A.weight", ".lora_B.weight", torch.nn.Parameter))},
               folder / "lora_state_dict.bin")
elif sys.argv[1] == "make":
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for protocol in (2, 4):
        torch.save(contents(), folder / f"protocol{protocol}.pth", pickle_protocol=protocol)
else:
    for name, tensor in torch.load(sys.argv[2], map_location="cpu", weights_only=True).items():
        wide = tensor.double()
        print(f'{{"{name}", "({", ".join(map(str, tensor.shape))})", {wide.sum().item():.10f}, {wide.abs().sum().item():.10f}}},')
