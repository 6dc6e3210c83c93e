"""Draws images of prompts with a flow model and writes them as one picture: sample.py [OUT.npy]"""

import sys

import numpy as np
import vggflow

out = sys.argv[1] if len(sys.argv) > 1 else "images.npy"

# A folder, or "org/name" in the Hugging Face cache; the settings are those of `vggflow sample`.
with vggflow.Model("models/nano", guidance=3, time_grid={"steps": 20}) as model:
    print("images of", model.image_size, "pixels")
    # Image i depends on its prompt and its seed alone, never on the batch.
    images = model.sample(["red heart", "red heart", "ghost"], seeds=[0, 1, 0])

np.save(out, images)
print("wrote", out, images.shape, images.dtype)
