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

# Two layers of attention, the second of which reads the keys and values of the first; its own keys are computed and
# never read.
nodes = [
    helper.make_node("MatMul", ["x", "q1"], ["query1"]),
    helper.make_node("MatMul", ["x", "k1"], ["keys"]),
    helper.make_node("MatMul", ["x", "v1"], ["values"]),
    helper.make_node("Transpose", ["keys"], ["columns"], perm=[0, 2, 1]),
    helper.make_node("MatMul", ["query1", "columns"], ["scores1"]),
    helper.make_node("Softmax", ["scores1"], ["shares1"], axis=-1),
    helper.make_node("MatMul", ["shares1", "values"], ["mixed1"]),
    helper.make_node("Add", ["x", "mixed1"], ["y"]),
    helper.make_node("MatMul", ["y", "q2"], ["query2"]),
    helper.make_node("MatMul", ["y", "k2"], ["unread"]),
    helper.make_node("MatMul", ["query2", "columns"], ["scores2"]),
    helper.make_node("Softmax", ["scores2"], ["shares2"], axis=-1),
    helper.make_node("MatMul", ["shares2", "values"], ["mixed2"]),
    helper.make_node("Add", ["y", "mixed2"], ["logits"]),
]
rng = np.random.default_rng(1)
weights = [numpy_helper.from_array(rng.standard_normal((5, 5)).astype(np.float32), name)
           for name in ("q1", "k1", "v1", "q2", "k2")]
graph = helper.make_graph(nodes, "g", [tensor("x", [2, 4, 5])], [tensor("logits", [2, 4, 5])], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
model.ir_version = 8
onnx.save(model, os.path.join(folder, "unread-keys.onnx"))
# Missing operations with missing gradients before and behind them: "strange" declares its output (2 x columns), so what
# follows is judged; "mystery" does not.
nodes = [
    helper.make_node("MatMul", ["x", "w"], ["h"], "project"),
    helper.make_node("ScatterElements", ["h", "places", "h"], ["a"], "before", axis=1, reduction="mul"),
    helper.make_node("Frobnicate", ["a"], ["b"], "strange"),
    helper.make_node("ScatterElements", ["b", "places", "h"], ["c"], "behind", axis=1, reduction="mul"),
    helper.make_node("Frobnicate", ["c"], ["logits"], "strange again"),
    helper.make_node("Frobnicate", ["c"], ["d"], "mystery"),
    helper.make_node("Relu", ["d"], ["other"], "unreachable"),
]
graph = helper.make_graph(nodes, "g", [tensor("x", ["rows", 3]), tensor("places", [2, 4], TensorProto.INT64)],
                          [tensor("logits", ["rows", 4]), tensor("other", ["rows", 4])], [weight],
                          value_info=[tensor("b", ["rows", 4])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
model.ir_version = 8
onnx.save(model, os.path.join(folder, "missing-both.onnx"))

# A model exported for training: three layers with dropout in each, one with its mask read.
nodes, value = [], "x"
for layer in range(3):
    nodes += [
        helper.make_node("MatMul", [value, f"w{layer}"], [f"h{layer}"]),
        helper.make_node("Tanh", [f"h{layer}"], [f"t{layer}"]),
        helper.make_node("Dropout", [f"t{layer}", "ratio", "mode"], [f"d{layer}", f"mask{layer}"]),
        helper.make_node("Add", [value, f"d{layer}"], [f"y{layer}"]),
    ]
    value = f"y{layer}"
nodes += [helper.make_node("Cast", ["mask1"], ["kept"], to=TensorProto.FLOAT),
          helper.make_node("Mul", [value, "kept"], ["logits"])]
weights = [numpy_helper.from_array(rng.standard_normal((5, 5)).astype(np.float32), f"w{layer}") for layer in range(3)]
weights += [numpy_helper.from_array(np.float32(0.4), "ratio"), numpy_helper.from_array(np.bool_(True), "mode")]
graph = helper.make_graph(nodes, "g", [tensor("x", [2, 4, 5])], [tensor("logits", [2, 4, 5])], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
model.ir_version = 8
onnx.save(model, os.path.join(folder, "dropout.onnx"))

# Three networks with x sigmoid(1.702 x), which stays what it is made of.
nodes, value = [], "x"
for layer in range(3):
    nodes += [
        helper.make_node("MatMul", [value, f"up{layer}"], [f"h{layer}"]),
        helper.make_node("Mul", [f"h{layer}", "factor"], [f"a{layer}"]),
        helper.make_node("Sigmoid", [f"a{layer}"], [f"s{layer}"]),
        helper.make_node("Mul", [f"h{layer}", f"s{layer}"], [f"y{layer}"]),
        helper.make_node("MatMul", [f"y{layer}", f"down{layer}"], [f"z{layer}"]),
        helper.make_node("Add", [value, f"z{layer}"], ["logits" if layer == 2 else f"x{layer}"]),
    ]
    value = f"x{layer}"
weights = [numpy_helper.from_array(np.float32(1.702), "factor")]
for layer in range(3):
    weights += [numpy_helper.from_array((rng.standard_normal((8, 64)) / 8).astype(np.float32), f"up{layer}"),
                numpy_helper.from_array((rng.standard_normal((64, 8)) / 8).astype(np.float32), f"down{layer}")]
graph = helper.make_graph(nodes, "g", [tensor("x", [4, 128, 8])], [tensor("logits", [4, 128, 8])], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
model.ir_version = 8
onnx.save(model, os.path.join(folder, "quick-gelu.onnx"))
