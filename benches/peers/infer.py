"""A folder of images through onnxruntime, decoded and resized by Pillow; called by benches/infer.rs."""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def prepared(path, resize, crop):
    image = Image.open(path).convert("RGB")
    scale = resize / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = (image.width - crop) // 2, (image.height - crop) // 2
    pixels = np.asarray(image.crop((left, top, left + crop, top + crop)), dtype=np.float32)
    return ((pixels / 255 - MEAN) / STD).transpose(2, 0, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    for name in ("--batch", "--threads", "--limit", "--resize", "--crop"):
        parser.add_argument(name, type=int, required=True)
    args = parser.parse_args()

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    image, first_output = session.get_inputs()[0].name, session.get_outputs()[0].name

    def classes(paths):
        batch = np.stack([prepared(path, args.resize, args.crop) for path in paths])
        return session.run([first_output], {image: batch})[0].argmax(axis=1)

    endings = (".jpg", ".jpeg", ".png")
    files = sorted(p for p in args.folder.rglob("*") if p.suffix.lower() in endings)[: args.limit]
    classes(files[: args.batch])
    start = time.perf_counter()
    found = [classes(files[k : k + args.batch]) for k in range(0, len(files), args.batch)]
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = len(files) / seconds
    print(json.dumps({"images": sum(map(len, found)), "wall_images_per_s": rate, "peak_mib": peak}))


main()
