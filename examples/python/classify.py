"""Classifies images with a model that selfcls-cli has exported, with nothing of selfcls:

    pip install onnxruntime numpy pillow
    python classify.py MODEL.onnx IMAGE...
"""

import json
import sys

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageOps

session = ort.InferenceSession(sys.argv[1])
said = session.get_modelmeta().custom_metadata_map
outputs = [output.name for output in session.get_outputs()]
if said.get("selfcls.format") not in ("1", "2"):
    sys.exit(f"{sys.argv[1]}: not a file of selfcls-cli, or of a version that is newer than this program")
if "probabilities" not in outputs:
    sys.exit(f"{sys.argv[1]}: gives only {', '.join(outputs)}; export it with --outputs probabilities")
how, takes = json.loads(said["selfcls.preprocess"]), said.get("selfcls.input", "float")
heads = {head["index"]: head for head in json.loads(said["selfcls.heads"])}
names = heads[int(said["selfcls.default_head"])].get("names")


def prepare(path):
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):  # grey of 16 bits, of which convert() would make white
        image = Image.fromarray(np.uint8((np.asarray(image) + 128.0) // 257))
    image = image.convert("RGB")
    if takes == "any":  # resizes, crops and normalises inside
        return np.asarray(image)[None]
    scale, crop = how["resize"] / min(image.size), how["crop"]
    size = [round(side * scale) for side in image.size]
    image = image.resize(size, Image.Resampling[how["interpolation"].upper()])
    left, top = ((side - crop) // 2 for side in size)
    pixels = np.asarray(image.crop((left, top, left + crop, top + crop)))
    if takes == "uint8":  # normalises inside
        return pixels[None]
    values = (pixels / np.float32(255) - np.float32(how["mean"])) / np.float32(how["std"])
    return values.transpose(2, 0, 1)[None]


for path in sys.argv[2:]:
    (probabilities,) = session.run(["probabilities"], {"image": prepare(path)})[0]
    best = int(probabilities.argmax())
    name = names[best] if names else None
    print(json.dumps({"file": path, "class": best, "name": name, "probability": float(probabilities[best])}))
