#!/usr/bin/env python3
"""Reference values of CLIP's towers from transformers, open_clip and OpenAI's package, and of the rewards on them, with random weights.
Usage: clip_reference.py tests/data src/vggflow/rewards/testdata [ASSETS]
Writes tests/data/clip/<layout>/: the weights as each package saves them and reference.safetensors (all computed in float64): embeddings of
pixels, the gradient, the directional derivative and the Hessian product of a cotangent, embeddings of token ids, exp(logit_scale).
Writes rewards/testdata/clip_rewards.safetensors: scores and image gradients of the official formulas with the official preprocessing, the
towers being those of tests/data/clip, the prompts tokenized by tests/data/sd3_tiny/tokenizer; aesthetic_head.safetensors is a small
head. With the assets, aesthetic_real.safetensors: LAION's head on a random tower, which is in the file."""
import importlib.util
import json
import pathlib
import shutil
import sys

import clip.model
import open_clip
import torch
import torch.nn.functional as F
import torchvision.transforms as T
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

SIDE, PATCH = 12, 4
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": SIDE, "patch_size": PATCH}
PROMPTS = ["a photo of a cat", "naïve dog, it's 42! " * 20]

models, rewards = map(pathlib.Path, sys.argv[1:3])
tokenizer = CLIPTokenizer.from_pretrained(models / "sd3_tiny/tokenizer")
TEXT = {"vocab_size": len(tokenizer), "hidden_size": 8, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 24, "eos_token_id": 2}


def randomize(model, scale=0.2):
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.tensor(1.5) if name == "logit_scale" else scale * torch.randn_like(p))
    return model.eval()


def values(embed_image, embed_text=None, logit_scale=None):
    """What the C++ towers are held against; the functions take float64."""
    pixels = torch.randn(2, 3, SIDE, SIDE).double()
    direction, ids = torch.randn_like(pixels), torch.randint(0, 50, (3, 9))
    ids[:, 6] = 59  # the highest id stands for the end mark
    with sdpa_kernel(SDPBackend.MATH):
        embeds, tangent = torch.autograd.functional.jvp(embed_image, pixels, direction)
        cotangent = torch.randn_like(embeds)
        scalar = lambda x: (embed_image(x) * cotangent).sum()
        out = {"pixels": pixels, "direction": direction, "cotangent": cotangent, "image": embeds, "tangent": tangent,
               "gradient": torch.autograd.functional.vjp(embed_image, pixels, cotangent)[1],
               "hessian": torch.autograd.functional.hvp(scalar, pixels, direction)[1]}
        if embed_text is not None:
            out |= {"ids": ids, "text": embed_text(ids), "logit_scale": logit_scale.exp().reshape(1)}
    return {k: v.detach().contiguous() if v.dtype == torch.int64 else v.detach().float().contiguous() for k, v in out.items()}


def fresh(name):
    folder = models / "clip" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def transformers_model(activation):
    config = CLIPConfig(vision_config=VISION | {"hidden_act": activation}, text_config=TEXT | {"hidden_act": activation}, projection_dim=10)
    config._attn_implementation = "eager"
    return randomize(CLIPModel(config))


def transformers_layout(name, activation):
    folder, model = fresh(name), transformers_model(activation)
    model.save_pretrained(folder)
    model.double()
    save_file(values(lambda x: model.visual_projection(model.vision_model(pixel_values=x).pooler_output),
                     lambda ids: model.text_projection(model.text_model(input_ids=ids).pooler_output), model.logit_scale), folder / "reference.safetensors")
    return model


def transformers_vision_layout():
    folder = fresh("transformers_vision")
    model = randomize(CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, hidden_act="gelu", projection_dim=10, attn_implementation="eager")))
    model.save_pretrained(folder)
    model.double()
    save_file(values(lambda x: model(pixel_values=x).image_embeds), folder / "reference.safetensors")


def open_clip_layout(name, custom_text):
    folder = fresh(name)
    vision = {"image_size": SIDE, "patch_size": PATCH, "width": 16, "head_width": 4, "layers": 3, "mlp_ratio": 1.5}
    text_cfg = {"context_length": TEXT["max_position_embeddings"], "vocab_size": TEXT["vocab_size"], "width": 8, "heads": 2, "layers": 2}
    kind = open_clip.model.CustomTextCLIP if custom_text else open_clip.model.CLIP
    model = randomize(kind(embed_dim=10, vision_cfg=vision, text_cfg=text_cfg, quick_gelu=custom_text))
    config = {"embed_dim": 10, "vision_cfg": vision, "text_cfg": text_cfg} | ({"quick_gelu": True} if custom_text else {})
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}, indent=1))
    if custom_text:  # as a training run saves it
        torch.save({"epoch": 3, "name": "tiny", "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    model.double()
    text = lambda ids: model.encode_text(F.pad(ids, (0, TEXT["max_position_embeddings"] - ids.shape[1])))  # it takes the whole context alone
    save_file(values(model.encode_image, text, model.logit_scale), folder / "reference.safetensors")
    return model


def openai_layout():
    folder = fresh("openai")  # heads are 64 wide, the text's vocabulary is cut to keep the file small
    model = randomize(clip.model.CLIP(10, SIDE, 2, 64, PATCH, 12, 60, 64, 1, 2), 0.1).half().float()
    state = {k: v.half() for k, v in model.state_dict().items()}
    marks = {"input_resolution": SIDE, "context_length": 12, "vocab_size": 60}
    torch.save(state | {k: torch.tensor(v) for k, v in marks.items()}, folder / "weights.pt")
    model.double()  # its LayerNorm goes through float32
    for module in model.modules():
        if isinstance(module, clip.model.LayerNorm):
            module.forward = lambda x, module=module: F.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)
    text = lambda ids: model.encode_text(F.pad(ids, (0, 3)))
    save_file(values(model.encode_image, text, model.logit_scale), folder / "reference.safetensors")


def hpsv2_resize():
    package = pathlib.Path(importlib.util.find_spec("open_clip").origin).parent.parent / "hpsv2/src/open_clip/transform.py"
    spec = importlib.util.spec_from_file_location("open_clip.hpsv2_transform", package)  # hpsv2 itself wants the network when imported
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ResizeMaxSize(SIDE, fill=0)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def scores(score, image):
    x = image.clone().requires_grad_(True)
    with sdpa_kernel(SDPBackend.MATH):
        value = score(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


def laion_head(widths):
    layers = [torch.nn.Linear(a, b) for a, b in zip(widths, widths[1:])]
    head = torch.nn.Module()  # layers.0, 2, 4, 6, 7: dropouts take the other places
    head.layers = torch.nn.Sequential(layers[0], torch.nn.Dropout(), layers[1], torch.nn.Dropout(), layers[2], torch.nn.Dropout(), layers[3], layers[4])
    return head.eval()


def write_rewards(pickscore, hpsv2, clip_score):
    rewards.mkdir(exist_ok=True)
    image = torch.rand(2, 3, 20, 25).double()
    standardise = T.Normalize(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, do_rescale=False)
    crop = lambda x: standardise(T.CenterCrop(SIDE)(T.Resize(SIDE, T.InterpolationMode.BICUBIC)(x)))
    longest = hpsv2_resize()
    context = TEXT["max_position_embeddings"]
    ids = tokenizer(PROMPTS, padding="max_length", max_length=context, truncation=True, return_tensors="pt").input_ids

    def cosine(model, x):
        y = model(pixel_values=processor(list(x), return_tensors="pt")["pixel_values"], input_ids=ids)
        return (y.image_embeds * y.text_embeds).sum(-1)

    def hps(x):
        pixels = torch.stack([standardise(longest(each)) for each in x])
        return (unit(hpsv2.encode_image(pixels)) @ unit(hpsv2.encode_text(ids)).T).diagonal()

    head = laion_head([10, 6, 5, 4, 3, 1])
    save_file({k: v.clone() for k, v in head.state_dict().items()}, rewards / "aesthetic_head.safetensors")
    head.double()
    tower = lambda x: clip_score.visual_projection(clip_score.vision_model(pixel_values=x).pooler_output)
    official = {"pickscore": lambda x: pickscore.logit_scale.exp() * cosine(pickscore, x), "hpsv2.1": hps,
                "clip-score": lambda x: 100 * cosine(clip_score, x), "aesthetic": lambda x: head.layers(unit(tower(crop(x)))).squeeze(1)}
    out = {"image": image}
    for name, score in official.items():
        out[name], out[f"{name}.gradient"] = scores(score, image)
    out = {k: v.float().contiguous() for k, v in out.items()}
    out["prompts"] = torch.tensor(list("\0".join(PROMPTS).encode()), dtype=torch.uint8)
    save_file(out, rewards / "clip_rewards.safetensors")


def write_real_aesthetic(assets):
    head = laion_head([768, 1024, 128, 64, 16, 1])
    head.load_state_dict(torch.load(assets / "laion_aesthetic/sac+logos+ava1-l14-linearMSE.pth", map_location="cpu", weights_only=True))
    head.double()
    config = CLIPVisionConfig(**(VISION | {"hidden_size": 8, "intermediate_size": 12}), projection_dim=768, attn_implementation="eager")
    tower = randomize(CLIPVisionModelWithProjection(config))
    out = {f"tower.{k}": v.detach().clone() for k, v in tower.state_dict().items() if not k.endswith("position_ids")}
    tower.double()
    image = torch.rand(3, 3, SIDE, SIDE).double()
    standardise = T.Normalize(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    value, gradient = scores(lambda x: head.layers(unit(tower(pixel_values=standardise(x)).image_embeds)).squeeze(1), image)
    save_file(out | {"image": image.float(), "score": value.float(), "gradient": gradient.float()}, rewards / "aesthetic_real.safetensors")


torch.manual_seed(12)
clip_score = transformers_layout("transformers_quick", "quick_gelu")
pickscore = transformers_layout("transformers_gelu", "gelu")
transformers_vision_layout()
hpsv2 = open_clip_layout("open_clip", custom_text=False)
open_clip_layout("open_clip_custom", custom_text=True)
openai_layout()
write_rewards(pickscore, hpsv2, clip_score)
if len(sys.argv) > 3:
    write_real_aesthetic(pathlib.Path(sys.argv[3]))
