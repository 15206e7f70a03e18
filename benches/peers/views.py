"""Multi-crop views with albumentations or torchvision, one thread; called by benches/views.rs."""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Per kind of view: scale of the crop, probability of blur, probability of solarisation.
GLOBAL_1, GLOBAL_2, LOCAL = ((0.4, 1.0), 0.1, 0.0), ((0.4, 1.0), 1.0, 0.2), ((0.05, 0.4), 0.5, 0.0)


def albumentations_views(kinds):
    import albumentations as A
    import cv2

    cv2.setNumThreads(1)

    def pipeline(size, scale, blur, solarise):
        return A.Compose([
            A.RandomResizedCrop(size=(size, size), scale=scale, interpolation=cv2.INTER_CUBIC),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, p=0.8),
            A.ToGray(p=0.2),
            A.GaussianBlur(sigma_limit=(0.1, 2.0), blur_limit=0, p=blur),
            A.Solarize(p=solarise),
            A.Normalize(MEAN, STD),
        ])

    pipelines = [pipeline(size, *kind) for size, kind in kinds]

    def views(image):
        if not isinstance(image, np.ndarray):
            image = cv2.cvtColor(cv2.imread(str(image), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return [np.ascontiguousarray(p(image=image)["image"].transpose(2, 0, 1)) for p in pipelines]

    return views


def torchvision_views(kinds):
    import torch
    from PIL import Image, ImageFilter, ImageOps
    from torchvision import transforms as T

    torch.set_num_threads(1)

    def blurred(image):
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))

    def pipeline(size, scale, blur, solarise):
        def sometimes(probability, operation):
            return T.RandomApply([T.Lambda(operation)], p=probability)

        return T.Compose([
            T.RandomResizedCrop(size, scale=scale, interpolation=T.InterpolationMode.BICUBIC),
            T.RandomHorizontalFlip(),
            T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            T.RandomGrayscale(0.2),
            sometimes(blur, blurred),
            sometimes(solarise, ImageOps.solarize),
            T.ToTensor(),
            T.Normalize(MEAN, STD),
        ])

    pipelines = [pipeline(size, *kind) for size, kind in kinds]

    def views(image):
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else Image.open(image).convert("RGB")
        return [p(image) for p in pipelines]

    return views


def decode(_kinds):
    from PIL import Image

    return lambda path: Image.open(path).convert("RGB").tobytes()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, help="a folder, or with --side a file of pixels")
    parser.add_argument("--side", type=int, help="the file holds bytes, [images, side, side, 3]")
    parser.add_argument("--pipeline", choices=["albumentations", "torchvision", "decode"], required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--global-size", type=int, required=True)
    parser.add_argument("--local-size", type=int, required=True)
    parser.add_argument("--locals", type=int, required=True)
    args = parser.parse_args()
    random.seed(0)
    np.random.seed(0)

    if args.side:
        found = list(np.fromfile(args.images, dtype=np.uint8).reshape(-1, args.side, args.side, 3))
    else:
        found = sorted(p for p in args.images.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    images = [found[k % len(found)] for k in range(args.count)]
    kinds = [(args.global_size, GLOBAL_1), (args.global_size, GLOBAL_2)] + [(args.local_size, LOCAL)] * args.locals
    make = {"albumentations": albumentations_views, "torchvision": torchvision_views, "decode": decode}[args.pipeline]
    views = make(kinds)

    views(images[0])
    wall, processor = time.perf_counter(), time.process_time()
    for image in images:
        views(image)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(json.dumps({"cpu_images_per_s": len(images) / processor, "wall_images_per_s": len(images) / wall}))


main()
