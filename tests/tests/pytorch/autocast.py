"""The gradient of a training step in f32 and under PyTorch's autocast. Argument: FOLDER.

The folder holds `weights.safetensors` of a ResNet-10 with a 3x3 stem of stride 2, and for each batch N the views as
raw f32, `globals.N` (two views of 32 pixels, one after the other) and `locals.N` (one of 16). Prints one JSON object:
the gradients of the first batch in f32, and for each precision and batch the distance of the gradient from f32's, of
f32's length.
"""

import json
import sys
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

folder = Path(sys.argv[1])
torch.set_num_threads(1)
weights = {name: tensor for name, tensor in load_file(folder / "weights.safetensors").items()
           if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
for tensor in weights.values():
    tensor.requires_grad_()


def norm(x, name):
    return F.batch_norm(x, None, None, weights[name + ".weight"], weights[name + ".bias"], training=True)


def conv(x, name, stride):
    weight = weights[name + ".weight"]
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)


def backbone(x):
    x = F.relu(norm(conv(x, "backbone.conv1", 2), "backbone.bn1"))
    for stage in range(1, 5):
        name, stride = f"backbone.layer{stage}.0", 1 if stage == 1 else 2
        y = F.relu(norm(conv(x, name + ".conv1", stride), name + ".bn1"))
        y = norm(conv(y, name + ".conv2", 1), name + ".bn2")
        if stage > 1:
            x = norm(conv(x, name + ".downsample.0", stride), name + ".downsample.1")
        x = F.relu(y + x)
    return x.mean((2, 3))


def linear(x, name):
    return F.linear(x, weights[name + ".weight"], weights[name + ".bias"])


def loss(logits, views, row=0.1, col=0.05, eps=1e-12):
    logits = logits.reshape(views, -1, logits.shape[-1])
    ratio = logits.shape[1] / logits.shape[2]
    targets = F.normalize(torch.softmax(logits / col, 1), p=1, dim=2, eps=eps)
    preds = torch.log(ratio * F.normalize(torch.softmax(logits / row, 2), p=1, dim=1, eps=eps) + eps)
    pairs = [(i, j) for i in range(views) for j in range(views) if i != j and (i < 2 or j < 2)]
    return sum(-(targets[i] * preds[j]).sum(1).mean() for i, j in pairs) / len(pairs)


def gradient(batch, dtype):
    scale = 16384.0 if dtype == torch.float16 else 1.0
    for tensor in weights.values():
        tensor.grad = None
    read = lambda name, size: torch.from_numpy(numpy.fromfile(folder / f"{name}.{batch}", "<f4")).reshape(-1, 3, size, size)
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        x = torch.cat([backbone(read("globals", 32)), backbone(read("locals", 16))])
        x = F.leaky_relu(norm(linear(x, "mlp_head.mlp.0"), "mlp_head.mlp.1"))
        x = linear(x, "mlp_head.mlp.3")
    x = F.normalize(x.float(), dim=1, eps=1e-7)
    total = 0
    for head in range(2):
        g, v = weights[f"cls_{head}.weight_g"], weights[f"cls_{head}.weight_v"]
        total = total + loss(x @ (v * (g / v.norm(dim=1, keepdim=True))).T, 3) / 2
    (total * scale).backward()
    return torch.cat([weights[name].grad.double().flatten() / scale for name in sorted(weights)])


batches = len(list(folder.glob("globals.*")))
answer = {"bf16": [], "fp16": []}
for batch in range(batches):
    expected = gradient(batch, None)
    if batch == 0:
        answer["f32"] = expected.tolist()
    for name, dtype in [("bf16", torch.bfloat16), ("fp16", torch.float16)]:
        answer[name].append(((gradient(batch, dtype) - expected).norm() / expected.norm()).item())
print(json.dumps(answer))
