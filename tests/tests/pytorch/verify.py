"""Opens what selfcls has converted, as its users would. Arguments: FOLDER CHECKPOINT.

Prints one JSON object: the features that torchvision's network gives with our weights.
"""

import json
import pickle
import struct
import sys
import types
from pathlib import Path

import torch
import torchvision

folder, checkpoint = Path(sys.argv[1]), sys.argv[2]

# A backbone is what torchvision's own network takes, without missing or unexpected names.
state = torch.load(folder / "backbone.pth", weights_only=True)
network = torchvision.models.resnet18()
network.fc = torch.nn.Identity()
network.load_state_dict(state, strict=True)
network.eval()
images = torch.tensor([i * 37 % 101 / 50 - 1 for i in range(2 * 3 * 32 * 32)]).reshape(2, 3, 32, 32)
with torch.no_grad():
    features = network(images)

# The whole model of a checkpoint of the authors has the names, types, shapes and values of theirs.
module = types.ModuleType("utils")
module.NNQueue = type("NNQueue", (), {})
sys.modules["utils"] = module
theirs = torch.load(checkpoint, weights_only=False)["state_dict"]
ours = torch.load(folder / "whole.pth", weights_only=True)
assert {"module." + name for name in ours} == set(theirs), set(theirs) ^ {"module." + name for name in ours}
for name, tensor in ours.items():
    other = theirs["module." + name]
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
    entry = header.pop(name)
    start, end = (8 + length + offset for offset in entry["data_offsets"])
    values = torch.frombuffer(bytearray(data[start:end]), dtype=torch.float32).reshape(entry["shape"])
    assert torch.equal(values, tensor), name
assert not header.keys() - {"__metadata__"}, header.keys()

# detectron2 opens its files like this (detectron2/checkpoint/detection_checkpoint.py).
with open(folder / "detectron2.pkl", "rb") as file:
    loaded = pickle.load(file, encoding="latin1")
assert loaded["matching_heuristics"] is True and loaded["__author__"]
arrays = loaded["model"]
expected = {
    "stem.conv1.weight": "conv1.weight",
    "stem.conv1.norm.running_var": "bn1.running_var",
    "res2.0.conv1.weight": "layer1.0.conv1.weight",
    "res2.1.conv2.norm.bias": "layer1.1.bn2.bias",
    "res3.0.shortcut.weight": "layer2.0.downsample.0.weight",
    "res5.0.shortcut.norm.weight": "layer4.0.downsample.1.weight",
}
for name, source in expected.items():
    array = arrays[name]
    assert array.dtype == "float32" and torch.equal(torch.from_numpy(array), state[source]), name
counted = [name for name in state if not name.endswith("num_batches_tracked")]
assert len(arrays) == len(counted), (len(arrays), len(counted))
assert all(name.startswith(("stem.", "res2.", "res3.", "res4.", "res5.")) for name in arrays)

print(json.dumps({"torch": torch.__version__, "features": features.flatten().tolist()}))
