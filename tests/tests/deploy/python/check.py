"""Reads exported files as ONNX's own tools do. Argument: a folder with NAME.onnx and NAME.json (see cases.rs).

Checks each completely, infers its shapes strictly, compares what is inferred with what is declared, and runs it in
onnx's reference implementation, which shares no code with any engine. Prints one line per file.
"""

import json
import sys
from pathlib import Path

import numpy
import onnx
from onnx import checker, shape_inference
from onnx.reference import ReferenceEvaluator


def shape_of(value):
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def check(path, case):
    # By path, so that weights beside the file are looked at too.
    checker.check_model(str(path), full_check=True)
    if case.get("prepares"):
        return "checked"
    model = onnx.load(path)
    graph = model.graph
    assert not model.doc_string and not graph.doc_string
    assert not any(node.doc_string for node in graph.node)
    names = [node.name for node in graph.node]
    assert all(names) and len(set(names)) == len(names), "names are not unique"
    version = next(entry.version for entry in model.opset_import if entry.domain == "")
    assert model.ir_version == {17: 8, 18: 8, 19: 9, 20: 9, 21: 10}[version], (version, model.ir_version)
    keys = {entry.key for entry in model.metadata_props}
    assert {"selfcls.format", "selfcls.input", "selfcls.preprocess", "selfcls.tool"} <= keys, keys

    # What the nodes imply must be what the file declares.
    declared = {output.name: shape_of(output) for output in graph.output}
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)
    for output in inferred.graph.output:
        shape = shape_of(output)
        assert len(shape) == 2 and shape[1] == declared[output.name][1], (output.name, shape, declared)

    image = numpy.array(case["input"]["values"], dtype=case["input"]["type"]).reshape(case["input"]["shape"])
    if not case["exact"]:
        return "checked"
    outputs = ReferenceEvaluator(model).run(None, {"image": image})
    assert {output.name for output in graph.output} == set(case["outputs"]), (declared, list(case["outputs"]))
    worst = 0.0
    for output, values in zip(graph.output, outputs, strict=True):
        expected = numpy.array(case["outputs"][output.name], dtype=numpy.float32)
        assert values.size == expected.size > 0, (output.name, values.shape, expected.shape)
        assert numpy.isfinite(values).all() and numpy.isfinite(expected).all(), f"{output.name} is not finite"
        scale = max(1.0, numpy.abs(expected).max())
        worst = max(worst, float(numpy.abs(values.ravel() - expected).max() / scale))
    assert worst <= case["tolerance"], f"{worst} > {case['tolerance']}"
    return f"{worst:.1e}"


folder = Path(sys.argv[1])
failed = 0
for path in sorted(folder.glob("*.onnx")):
    try:
        print(path.stem, check(path, json.loads(path.with_suffix(".json").read_text())))
    except Exception as error:
        failed += 1
        print(f"{path.stem}: {type(error).__name__}: {error}", file=sys.stderr)
sys.exit(1 if failed else 0)
