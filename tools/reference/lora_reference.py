#!/usr/bin/env python3
"""LoRA files and denoiser outputs of diffusers and PEFT, and a check of the files that vggflow writes.

make OUT: writes network.safetensors, the weights and inputs of a tiny SD3Transformer2DModel; adapters of it as the real libraries write
them; and outputs.safetensors with the network's output under each:
  diffusers_metadata.safetensors  StableDiffusion3Pipeline.save_lora_weights with metadata; mixed ranks, alpha != rank
  diffusers_plain.safetensors     the same without metadata (alpha = rank)
  diffusers_model.safetensors     SD3Transformer2DModel.save_lora_adapter: keys without "transformer."
  peft/                           PeftModel.save_pretrained; rslora, mixed ranks and alphas
  kohya.safetensors               every layer by the original network's names, dense fused q/k/v, alpha != rank. diffusers has no LoRA
                                  converter for these, so the adapter is merged into the original layout by hand and the sum goes
                                  through diffusers' own checkpoint converter (convert_sd3_transformer_checkpoint_to_diffusers)
check DIR: loads what lora_formats_test wrote there (VGGFLOW_LORA_OUT=DIR) with load_lora_weights, load_lora_adapter, PeftModel and,
for kohya, that merge; compares the outputs with vggflow's of the same files, prints the errors, fails above 1e-4.
Usage: lora_reference.py make|check FOLDER
"""
import sys
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

CONFIG = dict(sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=8, num_attention_heads=2,
              joint_attention_dim=12, caption_projection_dim=16, pooled_projection_dim=10, pos_embed_max_size=6)
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "to_add_out"]


def random_base():
    """Weights and inputs, the same on every call."""
    torch.manual_seed(5)
    net = SD3Transformer2DModel(**CONFIG)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.2 * torch.randn_like(p))
    x, _ = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    inputs = {"x": x, "t": torch.tensor([37.5, 912.0]), "context": torch.randn(2, 5, 12), "pooled": torch.randn(2, 10)}
    return {f"weights.{k}": v.detach().clone() for k, v in net.named_parameters()} | inputs


BASE = random_base()


def network():
    net = SD3Transformer2DModel(**CONFIG).eval()
    missing, unexpected = net.load_state_dict({k.removeprefix("weights."): v for k, v in BASE.items() if k.startswith("weights.")}, strict=False)
    assert missing == ["pos_embed.pos_embed"] and not unexpected
    return net


@torch.no_grad()
def output(net):
    return net(hidden_states=BASE["x"], timestep=BASE["t"], encoder_hidden_states=BASE["context"],
               pooled_projections=BASE["pooled"], return_dict=False)[0]


def pipeline(net):
    return StableDiffusion3Pipeline(transformer=net, scheduler=FlowMatchEulerDiscreteScheduler(), vae=None, text_encoder=None, tokenizer=None,
                                    text_encoder_2=None, tokenizer_2=None, text_encoder_3=None, tokenizer_3=None)


def randomize(net, seed):
    """Trained adapters: neither A nor B is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "lora_" in name:
                p.copy_(0.3 * torch.randn(p.shape, generator=generator))


# ---- the original network's layout -----------------------------------------------------------------------------------------

def swap(w):
    a, b = w.chunk(2, dim=0)
    return torch.cat([b, a])


def original_layout(net):
    """The checkpoint that diffusers' converter takes, made from its result."""
    s = net.state_dict()
    out = {"pos_embed": s["pos_embed.pos_embed"]}

    def put(target, *sources, change=lambda w: w):
        for end in ("weight", "bias"):
            out[f"{target}.{end}"] = change(torch.cat([s[f"{source}.{end}"] for source in sources]))

    put("x_embedder.proj", "pos_embed.proj")
    for letter, name in (("t", "timestep_embedder"), ("y", "text_embedder")):
        put(f"{letter}_embedder.mlp.0", f"time_text_embed.{name}.linear_1")
        put(f"{letter}_embedder.mlp.2", f"time_text_embed.{name}.linear_2")
    put("context_embedder", "context_embedder")
    put("final_layer.linear", "proj_out")
    put("final_layer.adaLN_modulation.1", "norm_out.linear", change=swap)
    for i in range(CONFIG["num_layers"]):
        last, b, o = i + 1 == CONFIG["num_layers"], f"transformer_blocks.{i}.", f"joint_blocks.{i}."
        put(o + "x_block.attn.qkv", *(f"{b}attn.to_{x}" for x in "qkv"))
        put(o + "context_block.attn.qkv", *(f"{b}attn.add_{x}_proj" for x in "qkv"))
        put(o + "x_block.attn.proj", b + "attn.to_out.0")
        put(o + "x_block.mlp.fc1", b + "ff.net.0.proj")
        put(o + "x_block.mlp.fc2", b + "ff.net.2")
        put(o + "x_block.adaLN_modulation.1", b + "norm1.linear")
        put(o + "context_block.adaLN_modulation.1", b + "norm1_context.linear", change=swap if last else lambda w: w)
        if not last:
            put(o + "context_block.attn.proj", b + "attn.to_add_out")
            put(o + "context_block.mlp.fc1", b + "ff_context.net.0.proj")
            put(o + "context_block.mlp.fc2", b + "ff_context.net.2")
    return out


def through_converter(original):
    """A network whose weights come from an original-layout checkpoint by diffusers' converter."""
    net = network()
    net.load_state_dict(convert_sd3_transformer_checkpoint_to_diffusers(dict(original)))
    return net


def merge_kohya(path):
    """W + alpha / rank * up @ down on the fused weights; every tensor of the file must have been used."""
    lora, original = load_file(path), original_layout(network())
    names = {"lora_unet_" + k.removesuffix(".weight").replace(".", "_"): k for k in original if k.endswith(".weight") and original[k].dim() == 2}
    used = set()
    for name, key in names.items():
        if f"{name}.lora_down.weight" not in lora:
            continue
        down, up, alpha = (lora[f"{name}.{x}"].float() for x in ("lora_down.weight", "lora_up.weight", "alpha"))
        used |= {f"{name}.{x}" for x in ("lora_down.weight", "lora_up.weight", "alpha")}
        original[key] = original[key] + alpha / down.shape[0] * up @ down
    assert used == set(lora), sorted(set(lora) - used)
    return through_converter(original)


# ---- make -------------------------------------------------------------------------------------------------------------------

def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(BASE, folder / "network.safetensors")
    assert torch.equal(output(through_converter(original_layout(network()))), output(network())), "the layout is not the converter's"
    outputs = {"base": output(network())}

    config = LoraConfig(r=2, lora_alpha=3, target_modules=ATTENTION, rank_pattern={"transformer_blocks.1.attn.to_q": 4},
                        alpha_pattern={"transformer_blocks.1.attn.to_q": 2, "to_v": 5})
    net = network()
    net.add_adapter(config)
    randomize(net, 1)
    metadata = {k: sorted(v) if isinstance(v, set) else v for k, v in net.peft_config["default"].to_dict().items()}
    StableDiffusion3Pipeline.save_lora_weights(folder, get_peft_model_state_dict(net), weight_name="diffusers_metadata.safetensors",
                                               transformer_lora_adapter_metadata=metadata)
    outputs["diffusers_metadata"] = output(net)

    net = network()
    net.add_adapter(LoraConfig(r=3, lora_alpha=3, target_modules=ATTENTION))
    randomize(net, 2)
    StableDiffusion3Pipeline.save_lora_weights(folder, get_peft_model_state_dict(net), weight_name="diffusers_plain.safetensors")
    outputs["diffusers_plain"] = output(net)

    net = network()
    net.add_adapter(LoraConfig(r=2, lora_alpha=6, target_modules=ATTENTION))
    randomize(net, 3)
    net.save_lora_adapter(folder, weight_name="diffusers_model.safetensors")
    outputs["diffusers_model"] = output(net)

    config = LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=["to_q", "proj_out", "net.2", "norm1_context.linear"],
                        rank_pattern={"proj_out": 2}, alpha_pattern={"to_q": 5})
    net = get_peft_model(network(), config)
    randomize(net, 4)
    outputs["peft"] = output(net)
    net.save_pretrained(folder / "peft")
    (folder / "peft/README.md").unlink(missing_ok=True)

    generator = torch.Generator().manual_seed(5)
    lora = {}
    for key, w in original_layout(network()).items():
        if not key.endswith(".weight") or w.dim() != 2:
            continue
        name = "lora_unet_" + key.removesuffix(".weight").replace(".", "_")
        lora[f"{name}.lora_down.weight"] = 0.2 * torch.randn(2, w.shape[1], generator=generator)
        lora[f"{name}.lora_up.weight"] = 0.2 * torch.randn(w.shape[0], 2, generator=generator)
        lora[f"{name}.alpha"] = torch.tensor(1.5)
    save_file(lora, folder / "kohya.safetensors")
    outputs["kohya"] = output(merge_kohya(folder / "kohya.safetensors"))

    save_file({k: v.contiguous() for k, v in outputs.items()}, folder / "outputs.safetensors")
    for name, y in outputs.items():
        print(f"{name:<20} changes the output by {(y - outputs['base']).abs().max() / outputs['base'].abs().max():.2f}")


# ---- check ------------------------------------------------------------------------------------------------------------------

def by_pipeline(path):
    net = network()
    pipeline(net).load_lora_weights(path.parent, weight_name=path.name, local_files_only=True)
    return net


def by_adapter(path):
    net = network()
    net.load_lora_adapter(path.parent, weight_name=path.name, local_files_only=True)
    return net


def check(folder):
    ours = load_file(folder / "outputs.safetensors")
    failed = False
    for name, y in sorted(ours.items()):
        layout = name.split("_")[0]
        loaders = {"diffusers": [("load_lora_weights", by_pipeline), ("load_lora_adapter", by_adapter)],
                   "peft": [("PeftModel.from_pretrained", lambda p: PeftModel.from_pretrained(network(), p))],
                   "kohya": [("merge and diffusers' converter", merge_kohya)]}[layout]
        for label, load in loaders:
            got = output(load(folder / (name if layout == "peft" else name + ".safetensors")))
            error = ((got - y).abs().max() / y.abs().max()).item()
            change = ((got - output(network())).abs().max() / y.abs().max()).item()
            ok = error <= 1e-4 and change > 1e-2
            failed |= not ok
            print(f"{name:<22} {label:<32} error {error:.1e}, effect {change:.2f}  {'ok' if ok else 'FAILED'}")
    sys.exit(failed)


{"make": make, "check": check}[sys.argv[1]](Path(sys.argv[2]))
