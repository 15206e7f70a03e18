"""Opens what selfcls has converted, as its users would. Arguments: FOLDER CHECKPOINT.

Prints one JSON object: the features that PyTorch's networks give with our weights.
"""

import json
import pickle
import struct
import sys
import types
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision

folder, checkpoint = Path(sys.argv[1]), sys.argv[2]

SIZE = 32
images = torch.tensor([i * 37 % 101 / 50 - 1 for i in range(2 * 3 * SIZE * SIZE)]).reshape(2, 3, SIZE, SIZE)


class Block(nn.Module):
    """A transformer block under the names that timm and DINO give its layers."""

    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x):
        qkv = self.attn["qkv"](self.norm1(x))
        q, k, v = qkv.unflatten(-1, (3, -1, 64)).permute(2, 0, 3, 1, 4)
        x = x + self.attn["proj"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class VisionTransformer(nn.Module):
    def __init__(self, width=128, depth=2, patch=8):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (SIZE // patch) ** 2, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x):
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]


def resnet(name):
    network = getattr(torchvision.models, name)()
    network.fc = nn.Identity()
    return network


# A backbone is what torchvision's own network takes, or a transformer with the usual names: without missing or
# unexpected names.
features, states = {}, {}
for name, network in [("resnet18", resnet("resnet18")), ("resnet50", resnet("resnet50")), ("vit", VisionTransformer())]:
    states[name] = torch.load(folder / f"{name}.pth", weights_only=True)
    network.load_state_dict(states[name], strict=True)
    network.eval()
    with torch.no_grad():
        features[name] = network(images).flatten().tolist()

# The whole model of a checkpoint of the authors has the names, types, shapes and values of theirs.
module = types.ModuleType("utils")
module.NNQueue = type("NNQueue", (), {})
sys.modules["utils"] = module
theirs = torch.load(checkpoint, weights_only=False)["state_dict"]
ours = torch.load(folder / "whole.pth", weights_only=True)["state_dict"]
assert set(ours) == set(theirs), set(theirs) ^ set(ours)
for name, tensor in ours.items():
    other = theirs[name]
    assert tensor.dtype == other.dtype and tensor.shape == other.shape, name
    if not name.endswith("num_batches_tracked"):
        assert torch.equal(tensor, other), name

# Safetensors, by the format's own definition.
data = (folder / "whole.safetensors").read_bytes()
(length,) = struct.unpack("<Q", data[:8])
header = json.loads(data[8 : 8 + length])
for name, tensor in ours.items():
    if name.endswith("num_batches_tracked"):
        continue
    entry = header.pop(name.removeprefix("module."))
    start, end = (8 + length + offset for offset in entry["data_offsets"])
    values = torch.frombuffer(bytearray(data[start:end]), dtype=torch.float32).reshape(entry["shape"])
    assert torch.equal(values, tensor), name
assert not header.keys() - {"__metadata__"}, header.keys()

# detectron2 opens its files like this (detectron2/checkpoint/detection_checkpoint.py), and calls its layers so
# (detectron2/modeling/backbone/resnet.py: a norm inside the convolution it follows, a shortcut beside each stage's first).
STATISTICS = ["weight", "bias", "running_mean", "running_var"]


def pairs(theirs, convolution, norm):
    yield theirs + ".weight", convolution + ".weight"
    for name in STATISTICS:
        yield f"{theirs}.norm.{name}", f"{norm}.{name}"


def layers(blocks, convolutions, projects):
    yield from pairs("stem.conv1", "conv1", "bn1")
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            theirs, ours = f"res{stage + 1}.{block}.", f"layer{stage}.{block}."
            for number in range(1, convolutions + 1):
                yield from pairs(f"{theirs}conv{number}", f"{ours}conv{number}", f"{ours}bn{number}")
            if block == 0 and (stage > 1 or projects):
                yield from pairs(theirs + "shortcut", ours + "downsample.0", ours + "downsample.1")


for name, blocks, convolutions, projects in [("resnet18", [2, 2, 2, 2], 2, False), ("resnet50", [3, 4, 6, 3], 3, True)]:
    with open(folder / f"{name}.pkl", "rb") as file:
        loaded = pickle.load(file, encoding="latin1")
    assert loaded["matching_heuristics"] is True and loaded["__author__"]
    arrays, expected = loaded["model"], dict(layers(blocks, convolutions, projects))
    assert arrays.keys() == expected.keys(), arrays.keys() ^ expected.keys()
    for theirs, ours in expected.items():
        array = arrays[theirs]
        assert array.dtype == "float32" and torch.equal(torch.from_numpy(array), states[name][ours]), theirs

print(json.dumps({"torch": torch.__version__, "features": features}))
