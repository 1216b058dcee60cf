#!/usr/bin/env python3
"""Writes the small models in Inputs/ that the tools' tests read. Needed only to change them: pip install onnx numpy."""
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "Inputs")


def tensor(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


# Two scatters whose reduction has no gradient, on the way from a weight to the logits.
nodes = [
    helper.make_node("MatMul", ["x", "w"], ["h"], "project"),
    helper.make_node("ScatterElements", ["h", "places", "h"], ["a"], "first_scatter", axis=1, reduction="mul"),
    helper.make_node("ScatterElements", ["a", "places", "h"], ["logits"], "second_scatter", axis=1, reduction="mul"),
]
weight = numpy_helper.from_array(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "w")
graph = helper.make_graph(nodes, "g", [tensor("x", [2, 3]), tensor("places", [2, 4], TensorProto.INT64)],
                          [tensor("logits", [2, 4])], [weight])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
model.ir_version = 8
onnx.save(model, os.path.join(folder, "no-gradient.onnx"))
