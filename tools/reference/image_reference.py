#!/usr/bin/env python3
"""Image files written by PIL in the colour types and layouts that occur, and their pixels as PIL's convert("RGB") reads them back: the test data of
src/vggflow/io/image_file_test.cpp (folder testdata/images: the files, and pixels.safetensors). Usage: image_reference.py FOLDER
"""
import pathlib
import sys

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
height, width = 19, 26
y, x = np.mgrid[0:height, 0:width]
rgb = np.stack([x * 9, y * 13, (x * y * 3) % 256], -1).astype(np.uint8)
alpha = ((x + y) * 5).astype(np.uint8)[..., None]
image = Image.fromarray(rgb)
text = PngInfo()
text.add_text("prompt", "a café, \"quoted\"")  # Latin-1
text.add_itxt("title", "猫")
text.add_text("parameters", "a cat\nNegative prompt: dog\nSteps: 20", zip=True)
image.save(folder / "rgb.png", pnginfo=text)
Image.fromarray(np.concatenate([rgb, alpha], -1)).save(folder / "rgba.png")
image.convert("L").save(folder / "grey.png")
image.convert("1").save(folder / "one_bit.png")
image.quantize(13).save(folder / "palette.png")
Image.fromarray((37 * x + 11 * y).astype(np.uint16)).save(folder / "grey_16_bit.png")  # up to 1123: Pillow cuts at 255
image.save(folder / "baseline_420.jpg", quality=88, subsampling="4:2:0")
image.save(folder / "progressive_444.jpg", quality=75, subsampling="4:4:4", progressive=True)
image.convert("L").save(folder / "grey.jpg", quality=80)
image.convert("CMYK").save(folder / "cmyk.jpg")
pixels = {}
for file in sorted(folder.iterdir()):
    if file.suffix in (".png", ".jpg") and file.name != "cmyk.jpg":
        pixels[file.name] = torch.tensor(np.array(Image.open(file).convert("RGB")))
save_file(pixels, folder / "pixels.safetensors")
