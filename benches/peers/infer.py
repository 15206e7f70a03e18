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


def prepared(path, resize, crop, draft):
    image = Image.open(path)
    if draft:  # JPEG at a half, a quarter or an eighth, to no less than twice what is wanted
        image.draft("RGB", (2 * resize, 2 * resize))
    image = image.convert("RGB")
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
    parser.add_argument("--draft", action="store_true")
    args = parser.parse_args()

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    image, first_output = session.get_inputs()[0].name, session.get_outputs()[0].name

    def classes(paths):
        batch = np.stack([prepared(path, args.resize, args.crop, args.draft) for path in paths])
        return session.run([first_output], {image: batch})[0].argmax(axis=1)

    endings = (".jpg", ".jpeg", ".png")
    files = sorted(p for p in args.folder.rglob("*") if p.suffix.lower() in endings)[: args.limit]
    classes(files[: args.batch])
    times, found = [], 0
    start, busy = time.perf_counter(), time.process_time()
    for k in range(0, len(files), args.batch):
        begun = time.perf_counter()
        found += len(classes(files[k : k + args.batch]))
        times.append(time.perf_counter() - begun)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    report = {
        "images": found,
        "wall_images_per_s": found / seconds,
        "cpu_ms_per_image": 1e3 * busy / found,
        "latency_ms": 1e3 * sorted(times)[len(times) // 2],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(report))


main()
