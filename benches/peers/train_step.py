"""One training step of Self-Classifier (arXiv 2103.10994) in eager PyTorch; called by benches/train_step.

Random views, a torchvision backbone, a queue that is full from the start, SGD with layer-wise rates or AdamW.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

ROW_TEMPERATURE, COLUMN_TEMPERATURE, GLOBALS = 0.1, 0.05, 2
PHASES = ("embed", "queue_heads", "loss", "backward", "optimizer")


def backbone(arch, stem):
    """The network without its last layer, and the width of what it gives."""
    if arch == "vit_tiny":
        net = torchvision.models.VisionTransformer(
            image_size=224, patch_size=16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768)
        net.heads = nn.Identity()
        return net, 192
    net = getattr(torchvision.models, arch)()
    width = net.fc.in_features
    net.fc = nn.Identity()
    if stem == "cifar":
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    return net, width


class SelfClassifier(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.backbone, width = backbone(args.arch, args.stem)
        self.head = nn.Sequential(
            nn.Linear(width, args.hidden), nn.BatchNorm1d(args.hidden), nn.LeakyReLU(), nn.Linear(args.hidden, args.dim))
        linear = (nn.Linear(args.dim, classes, bias=False) for classes in args.heads)
        self.classifiers = nn.ModuleList(nn.utils.parametrizations.weight_norm(layer) for layer in linear)

    def embed(self, resolutions):
        features = torch.cat([self.backbone(views) for views in resolutions])
        return F.normalize(self.head(features), dim=1, eps=1e-7)


def loss_of(logits, views):
    """The symmetric loss of one head over all ordered pairs of views that are not both local."""
    logits = logits.float().unflatten(0, (views, -1))
    batch, classes = logits.shape[1:]
    target = F.normalize((logits / COLUMN_TEMPERATURE).softmax(dim=1), p=1, dim=2)
    prediction = F.normalize((logits / ROW_TEMPERATURE).softmax(dim=2), p=1, dim=1)
    log_prediction = (prediction * (batch / classes) + 1e-12).log()
    pairs = [(i, j) for i in range(views) for j in range(views) if i != j and min(i, j) < GLOBALS]
    return sum(-(target[i] * log_prediction[j]).sum(dim=1).mean() for i, j in pairs) / len(pairs)


class Larc(torch.optim.SGD):
    """SGD whose rate for each tensor follows the norms of the tensor and of its gradient."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for tensor in group["params"]:
                norm, gradient_norm = tensor.norm(), tensor.grad.norm()
                rate = 1e-3 * norm / (gradient_norm + 1e-6 * norm + 1e-8)
                tensor.grad.add_(tensor, alpha=1e-6)
                tensor.grad.mul_(torch.where((norm > 0) & (gradient_norm > 0), rate, 1.0))
        super().step()


def optimizer_of(name, model, device):
    if name == "adamw":
        # As fast as PyTorch has it; on a CPU its default.
        fused = True if device.type == "cuda" else None
        return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-6, fused=fused)
    return Larc(model.parameters(), lr=0.1, momentum=0.9)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", required=True)
    parser.add_argument("--stem", choices=["image-net", "cifar"], default="image-net", help="of a ResNet")
    parser.add_argument("--optimizer", choices=["larc", "adamw"], default="larc")
    parser.add_argument("--heads", type=int, nargs="+", required=True)
    for name in ("batch", "global-size", "locals", "local-size", "hidden", "dim", "queue", "threads", "steps", "warmup"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--amp", choices=["bfloat16", "float16"])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    torch.backends.cudnn.benchmark = True
    layout = torch.channels_last if args.channels_last else torch.contiguous_format

    before = resident("VmRSS:")
    model = SelfClassifier(args).to(device, memory_format=layout)
    optimizer = optimizer_of(args.optimizer, model, device)
    # float16 needs it; for the others it does nothing.
    scaler = torch.amp.GradScaler(device.type, enabled=args.amp == "float16")
    queue = F.normalize(torch.randn(args.queue, args.dim, device=device))
    sizes = [(GLOBALS, args.global_size)] + ([(args.locals, args.local_size)] if args.locals else [])
    shapes = [(count * args.batch, 3, size, size) for count, size in sizes]
    resolutions = [torch.randn(shape, device=device).to(memory_format=layout) for shape in shapes]
    views = sum(count for count, _ in sizes)
    autocast = torch.autocast(device.type, getattr(torch, args.amp or "bfloat16"), enabled=args.amp is not None)

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def step(first_row, apart):
        now = wait if apart else time.perf_counter
        times = [now()]
        optimizer.zero_grad()
        with autocast:
            embeddings = model.embed(resolutions)
            times.append(now())
            first = embeddings[: args.batch].detach().float()
            nearest = queue[(first @ queue.T).topk(2).indices[:, 0]]
            queue[first_row : first_row + args.batch] = first
            embeddings = torch.cat([nearest.to(embeddings.dtype), embeddings[args.batch :]])
            logits = [classifier(embeddings) for classifier in model.classifiers]
            times.append(now())
        loss = sum(loss_of(head, views) for head in logits) / len(logits)
        times.append(now())
        scaler.scale(loss).backward()
        times.append(now())
        scaler.step(optimizer)
        scaler.update()
        times.append(now())
        return times

    def steps(start, count, apart):
        """Of each step the milliseconds between the moments at which it looks at the clock."""
        moments = [step(number * args.batch % (args.queue - args.batch), apart) for number in range(start, start + count)]
        return [[1e3 * (after - before) for before, after in zip(times, times[1:])] for times in moments]

    def whole(start, count):
        """Milliseconds of a step: the median, or on a GPU the mean, since none is waited for there."""
        if device.type != "cuda":
            return statistics.median(map(sum, steps(start, count, apart=False)))
        began = wait()
        steps(start, count, apart=False)
        return 1e3 * (wait() - began) / count

    # Waiting between the phases costs a GPU time of its own, so they are timed in steps of their own.
    steps(0, args.warmup, apart=False)
    total = whole(args.warmup, args.steps)
    peak = peak_mib(device, before)
    wait()
    columns = zip(*steps(args.warmup + args.steps, args.steps, apart=True))
    figures = {name: statistics.median(column) for name, column in zip(PHASES, columns)}
    figures |= {"total": total, "peak_mib": peak}
    print(json.dumps(figures | {"torch": torch.__version__}))


def peak_mib(device, before):
    """The most memory in use so far: the GPU's, or the process's beyond `before`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    most = resident("VmHWM:")
    return None if before is None or most is None else most - before


def resident(key):
    """MiB that the system accounts to this process; none where it does not tell."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith(key))
    except (OSError, StopIteration):
        return None


main()
