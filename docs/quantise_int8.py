"""Statically quantises an exported file to 8-bit integers: MODEL.onnx IMAGES OUT.onnx.

MODEL.onnx is what `selfcls-cli export MODEL --out MODEL.onnx` writes (--input float, the default). IMAGES is a folder of
some hundred images like those that the network will see: they decide the ranges of its values. Needs onnx,
onnxruntime (1.20 or newer), numpy and Pillow. See quantisation.md.
"""

import json
import sys
from pathlib import Path

import numpy
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
from onnxruntime.quantization import quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image, ImageOps

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"}


def prepared(path, recipe):
    """The network's input for the image at `path`, after the recipe in the file's metadata."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    scale = recipe["resize"] / min(image.size)
    size = tuple(round(side * scale) for side in image.size)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    crop = recipe["crop"]
    left, top = ((side - crop) // 2 for side in size)
    image = image.resize(size, filters[recipe["interpolation"]]).crop((left, top, left + crop, top + crop))
    pixels = numpy.asarray(image, dtype=numpy.float32) / 255
    pixels = (pixels - numpy.float32(recipe["mean"])) / numpy.float32(recipe["std"])
    return pixels.transpose(2, 0, 1)[None]


class Images(CalibrationDataReader):
    def __init__(self, paths, recipe):
        self.inputs = ({"image": prepared(path, recipe)} for path in paths)

    def get_next(self):
        return next(self.inputs, None)


def quantise(model, images, out):
    source = onnx.load(model)
    properties = {entry.key: entry.value for entry in source.metadata_props}
    if properties.get("selfcls.input", "float") != "float":
        sys.exit(f"{model}: takes bytes; export it with --input float")
    recipe = json.loads(properties["selfcls.preprocess"])
    paths = sorted(path for path in Path(images).rglob("*") if path.suffix.lower() in ENDINGS)
    if not paths:
        sys.exit(f"{images}: no images")
    # Embedding and logits stay in floats: unit lengths and cosines bear no coarse steps, and cost nothing. So do a
    # transformer's weights of attention, a softmax that tract would compute wrongly in 8 bits.
    attention = (".attn.scores", ".attn.weights", ".attn.mixed")
    floats = [
        node.name
        for node in source.graph.node
        if not node.name.startswith(("backbone.", "features")) or node.name.endswith(attention)
    ]
    simplified = Path(out).with_suffix(".simplified.onnx")
    quant_pre_process(model, simplified, skip_symbolic_shape=True)
    quantize_static(
        simplified,
        out,
        Images(paths, recipe),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        # Without it, products of 8 bits overflow on processors that lack VNNI.
        reduce_range=True,
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_exclude=floats,
    )
    simplified.unlink()
    # The tools keep the graph, not what the file says about itself.
    quantised = onnx.load(out)
    del quantised.metadata_props[:]
    for key, value in properties.items():
        quantised.metadata_props.add(key=key, value=value)
    onnx.save(quantised, out)

    # How much of the classification is left.
    sessions = [onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (model, out)]
    same, cosines = 0, []
    for path in paths:
        image = {"image": prepared(path, recipe)}
        floats, integers = (session.run(["probabilities", "embedding"], image) for session in sessions)
        same += int(floats[0].argmax() == integers[0].argmax())
        cosines.append(float((floats[1] * integers[1]).sum()))
    report = {
        "images": len(paths),
        "same_class": same / len(paths),
        "mean_cosine": sum(cosines) / len(cosines),
        "bytes": Path(out).stat().st_size,
        "bytes_before": Path(model).stat().st_size,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    quantise(*sys.argv[1:])
