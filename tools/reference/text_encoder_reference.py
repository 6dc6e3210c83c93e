#!/usr/bin/env python3
"""Reference values of SD3's text encoders from transformers and of its prompt embeddings from diffusers, with random weights.
Usage: text_encoder_reference.py tests/data
Writes text_encoder_reference.safetensors (for each variant the weights, ids, and outputs in fp32 and of the network in bf16) and sd3_tiny/, a tiny model folder in
diffusers' layout (three tokenizers, three encoders) with sd3_tiny/reference.safetensors: what StableDiffusion3Pipeline.encode_prompt
gives for some prompts, with and without T5. The tokenizers' vocabularies are made up here."""
import copy
import json
import pathlib
import sys

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

PROMPTS = ["a photo of a cat", "Ça va? it's 42 dogs, isn't it!", "", "naïve cat " * 30]
WORDS = ["a", "of", "cat", "dog", "photo", "it", "is", "na"]
T5_TOKENS = 20


def randomize(model, scale):
    model = model.eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(scale * torch.randn_like(p))
    return model


def clip(config, **extra):
    return randomize(CLIPTextModelWithProjection(CLIPTextConfig(**config, attn_implementation="eager", **extra)), 0.2)


def clip_variant(name, ids, **extra):
    net = clip({"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "max_position_embeddings": 16,
                "projection_dim": 12, "bos_token_id": 0, "pad_token_id": 1}, **extra)
    out = {f"weights.{k}": v for k, v in net.state_dict().items()} | {"ids": ids}
    with torch.no_grad():
        for end, network in (("", net), ("_bf16", copy.deepcopy(net).bfloat16())):
            y = network(ids, output_hidden_states=True)
            out |= {f"penultimate{end}": y.hidden_states[-2], f"pooled{end}": y.text_embeds}
    return {f"{name}.{k}": v.contiguous() for k, v in out.items()}


def t5(**config):
    return randomize(T5EncoderModel(T5Config(feed_forward_proj="gated-gelu", attn_implementation="eager", **config)), 0.15)


def t5_variant(name, tokens, **extra):
    net = t5(vocab_size=50, d_model=16, d_kv=4, d_ff=20, num_layers=3, num_heads=6, **extra)
    ids = torch.randint(0, 50, (2, tokens))
    with torch.no_grad():
        out = {"ids": ids, "tokens": net(ids)[0], "tokens_bf16": copy.deepcopy(net).bfloat16()(ids)[0]}
    weights = {k: v for k, v in net.state_dict().items() if k != "encoder.embed_tokens.weight"}  # shared.weight again
    return {f"{name}.{k}": v.contiguous() for k, v in ({f"weights.{k}": v for k, v in weights.items()} | out).items()}


def byte_alphabet():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(0x100 + i) for i in range(len(others))]


def write_clip_tokenizer(folder, pad):
    folder.mkdir()
    vocabulary, merges = [*byte_alphabet(), *(c + "</w>" for c in byte_alphabet())], []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair, parts = parts[:2], ["".join(parts[:2]), *parts[2:]]
            if tuple(pair) not in merges:
                merges.append(tuple(pair))
            if parts[0] not in vocabulary:
                vocabulary.append(parts[0])
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: i for i, token in enumerate(vocabulary)}
    rule = {"lstrip": False, "rstrip": False, "single_word": False, "special": True}
    marks = dict.fromkeys(["<|startoftext|>", "<|endoftext|>", pad])
    config = {"added_tokens_decoder": {str(ids[t]): {"content": t, "normalized": t == "<|startoftext|>", **rule} for t in marks},
              "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": pad,
              "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    return CLIPTokenizer.from_pretrained(folder), len(vocabulary)


def write_t5_tokenizer(folder):
    folder.mkdir()
    model = sentencepiece_model_pb2.ModelProto()
    pieces = [("<pad>", 0, 3), ("</s>", 0, 3), ("<unk>", 0, 2), ("\u2581", -2, 1)]
    pieces += [(c, -6 - i / 8, 1) for i, c in enumerate("etaoinshrdlcumwfgypbvkCIï?!,'4")]
    pieces += [("\u2581" + w, -4 - i / 8, 1) for i, w in enumerate(WORDS)]
    for text, score, kind in pieces:
        model.pieces.add(piece=text, score=score, type=kind)
    model.trainer_spec.model_type, model.trainer_spec.unk_id = 1, 2
    (folder / "spiece.model").write_bytes(model.SerializeToString())
    rule = {"normalized": False, "single_word": False, "special": True}
    tokens = {str(i): {"content": c, "lstrip": False, "rstrip": False, **rule} for i, c in enumerate(["<pad>", "</s>", "<unk>"])}
    config = {"added_tokens_decoder": tokens, "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "extra_ids": 100,
              "model_max_length": 512, "tokenizer_class": "T5Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    return T5TokenizerFast.from_pretrained(folder), len(pieces) + 100


def sd3_prompt(folder):
    folder.mkdir()
    tokenizer, size = write_clip_tokenizer(folder / "tokenizer", "<|endoftext|>")
    tokenizer_2, _ = write_clip_tokenizer(folder / "tokenizer_2", "!")
    tokenizer_3, size_3 = write_t5_tokenizer(folder / "tokenizer_3")
    common = {"vocab_size": size, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 77, "eos_token_id": 2}
    text_encoder = clip(common, hidden_size=8, intermediate_size=16, projection_dim=8, hidden_act="quick_gelu")
    text_encoder_2 = clip(common, hidden_size=12, intermediate_size=20, projection_dim=12, hidden_act="gelu")
    text_encoder_3 = t5(vocab_size=size_3, d_model=24, d_kv=4, d_ff=32, num_layers=2, num_heads=3)
    text_encoder.save_pretrained(folder / "text_encoder")
    text_encoder_2.save_pretrained(folder / "text_encoder_2")
    text_encoder_3.save_pretrained(folder / "text_encoder_3", max_shard_size="16KB")
    transformer = SD3Transformer2DModel(sample_size=8, patch_size=2, in_channels=4, num_layers=1, attention_head_dim=4, num_attention_heads=2,
                                        joint_attention_dim=24, caption_projection_dim=8, pooled_projection_dim=20, out_channels=4)
    pipeline = StableDiffusion3Pipeline(transformer, FlowMatchEulerDiscreteScheduler(), None, text_encoder, tokenizer, text_encoder_2, tokenizer_2,
                                        text_encoder_3, tokenizer_3)
    out = {}
    for name in ["full", "no_t5"]:
        if name == "no_t5":
            pipeline.text_encoder_3 = None
        with torch.no_grad():
            context, negative, pooled, negative_pooled = pipeline.encode_prompt(PROMPTS, None, None, device="cpu", max_sequence_length=T5_TOKENS)
        out |= {f"{name}.context": context, f"{name}.pooled": pooled, f"{name}.negative": negative, f"{name}.negative_pooled": negative_pooled}
    out["prompts"] = torch.tensor(list("\0".join(PROMPTS).encode()), dtype=torch.uint8)
    save_file({k: v.contiguous() for k, v in out.items()}, folder / "reference.safetensors")


target = pathlib.Path(sys.argv[1])
torch.manual_seed(11)
eos = torch.tensor([[5, 7, 59, 3, 3, 3, 3], [5, 9, 8, 7, 6, 59, 59], [58, 59, 1, 1, 59, 1, 2]])  # id 59 is the highest and the first eos
first = torch.tensor([[5, 7, 9, 59, 3, 9], [9, 59, 9, 9, 9, 9], [5, 5, 5, 5, 5, 5]])  # id 9 is not the highest; the last row has none
save_file(clip_variant("quick", eos, num_hidden_layers=3, hidden_act="quick_gelu", eos_token_id=2)
          | clip_variant("gelu", first, num_hidden_layers=2, hidden_act="gelu", eos_token_id=9)
          | t5_variant("t5", 37) | t5_variant("t5_far", 150, relative_attention_num_buckets=16, relative_attention_max_distance=64),
          target / "text_encoder_reference.safetensors")
sd3_prompt(target / "sd3_tiny")
