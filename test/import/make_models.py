#!/usr/bin/env python3
"""Writes the small models in Inputs/ that the import tests read. Needed only to change them: pip install onnx numpy."""

import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "Inputs")
rng = np.random.default_rng(1)


def tensor(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name, *shape):
    return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)


def ints(name, values, shape=None):
    return numpy_helper.from_array(np.array(values, np.int64).reshape(shape if shape is not None else np.shape(values)), name)


def model(nodes, inputs, outputs, initializers=(), opset=18, functions=(), extra_opsets=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(*extra) for extra in extra_opsets]
    made = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    made.ir_version = 10
    return made


def save(name, made):
    with open(os.path.join(folder, name + ".onnx"), "wb") as file:
        file.write(made if isinstance(made, bytes) else made.SerializeToString(deterministic=True))


node = helper.make_node
x24, y23 = tensor("x", [2, 4]), tensor("y", [2, 3])
linear = model([node("MatMul", ["x", "w"], ["y"], name="fc")], [x24], [y23], [weight("w", 4, 3)])
save("linear", linear)

# ---- files that are no models
save("empty", b"")
save("text", b"this is a list of\nthings to do\n")
save("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
save("truncated", linear.SerializeToString(deterministic=True)[:-40])
save("no-graph", helper.make_model(linear.graph).SerializeToString()[:2])
save("opset-9", model([node("Relu", ["x"], ["y"])], [x24], [tensor("y", [2, 4])], opset=9))
save("opset-99", model([node("Relu", ["x"], ["y"])], [x24], [tensor("y", [2, 4])], opset=99))

# ---- graphs that are no graphs
save("cyclic", model([node("Add", ["x", "c"], ["a"], name="first"), node("Relu", ["a"], ["b"], name="second"),
                      node("Neg", ["b"], ["c"], name="third"), node("Neg", ["c"], ["y"], name="last")],
                     [x24], [tensor("y", [2, 4])]))
save("unsorted", model([node("Neg", ["b"], ["y"], name="third"), node("Relu", ["a"], ["b"], name="second"),
                        node("Exp", ["x"], ["a"], name="first")], [x24], [tensor("y", [2, 4])]))
save("undefined", model([node("Add", ["x", "nowhere"], ["y"], name="sum")], [x24], [tensor("y", [2, 4])]))
save("twice", model([node("Exp", ["x"], ["y"], name="one"), node("Neg", ["x"], ["y"], name="two")], [x24], [tensor("y", [2, 4])]))
save("shape-mismatch", model([node("Add", ["x", "b"], ["y"], name="/block/Add")], [x24], [y23], [weight("b", 3)]))
sparse = model([node("Relu", ["x"], ["y"])], [x24], [tensor("y", [2, 4])])
sparse.graph.sparse_initializer.append(helper.make_sparse_tensor(weight("w", 2), ints("i", [0, 3]), [4]))
save("sparse", sparse)

# ---- what AMC lacks
save("unknown", model([node("Frobnicate", ["x"], ["a"], name="odd"), node("Frobnicate", ["a"], ["b"]),
                       node("Reshape", ["b", "shape"], ["c"], name="by_data"),
                       node("NonMaxSuppression", ["x", "x"], ["d"], name="nms"),
                       node("Reshape", ["x", "shape"], ["y"], name="moving")],
                      [x24, tensor("shape", [2], TensorProto.INT64)], [tensor("y", [8, 1])]))
save("attribute", model([node("Softmax", ["x"], ["y"], name="soft", axis=1, temperature=2.0)], [x24], [tensor("y", [2, 4])]))

# ---- external data
def external(location, length=48, offset=0):
    made = model([node("MatMul", ["x", "w"], ["y"], name="fc")], [x24], [y23], [weight("w", 4, 3)])
    held = made.graph.initializer[0]
    held.ClearField("raw_data")
    held.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        entry = held.external_data.add()
        entry.key, entry.value = key, value
    return made


save("external-absent", external("absent.bin"))
save("external-parent", external("../secret.bin"))
save("external-inner-parent", external("a/../../secret.bin"))
save("external-absolute", external("/etc/hostname"))
save("external-link", external("link.bin"))
save("external-short", external("short.bin"))
save("external-length", external("absent.bin", length=44))
save("external-overflow", external("short.bin", offset=2**64 - 8))
with open(os.path.join(folder, "short.bin"), "wb") as file:
    file.write(bytes(40))

# ---- shapes
dynamic = [tensor("a", ["batch", 4]), tensor("b", ["batch", "width"])]
save("dynamic", model([node("Add", ["a", "b"], ["y"], name="sum")], dynamic, [tensor("y", ["batch", 4])]))
save("sum-of-dimensions", model([node("Concat", ["a", "b"], ["c"], axis=1), node("Add", ["c", "mask"], ["y"], name="sum")],
                                [tensor("a", [2, "past"]), tensor("b", [2, "now"]), tensor("mask", [2, "past + now"])],
                                [tensor("y", [2, "past + now"])]))

# ---- functions, optional inputs, initializers that are inputs
scale = helper.make_function("local", "Scale", ["v", "by"], ["r"],
                             [node("Constant", [], ["c"], name="c"), node("Mul", ["v", "c"], ["m"], name="times"),
                              node("Add", ["m", "by"], ["r"], name="plus")],
                             [helper.make_opsetid("", 18)], attributes=["factor"])
scale.node[0].attribute.append(onnx.AttributeProto(name="value_float", type=onnx.AttributeProto.FLOAT, ref_attr_name="factor"))
preset = helper.make_function("local", "Preset", ["v"], ["r"], [node("LeakyRelu", ["v"], ["r"], name="leaky")],
                              [helper.make_opsetid("", 18)], attribute_protos=[helper.make_attribute("slope", 0.25)])
preset.node[0].attribute.append(onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope"))
save("function", model([node("Scale", ["x", "b"], ["s"], name="scaled", domain="local", factor=3.0),
                        node("Preset", ["s"], ["y"], name="preset", domain="local")],
                       [x24], [tensor("y", [2, 4])], [weight("b", 4)], functions=[scale, preset], extra_opsets=[("local", 1)]))
endless = helper.make_function("local", "Endless", ["v"], ["r"], [node("Endless", ["v"], ["r"], name="again", domain="local")],
                               [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)])
save("recursive", model([node("Endless", ["x"], ["y"], name="top", domain="local")], [x24], [tensor("y", [2, 4])],
                        functions=[endless], extra_opsets=[("local", 1)]))
save("initializer-input", model([node("MatMul", ["x", "w"], ["y"], name="fc")], [x24, tensor("w", [4, 3])], [y23], [weight("w", 4, 3)]))
save("optional-input", model([node("Clip", ["x", "", "high"], ["y"], name="clip")], [x24], [tensor("y", [2, 4])],
                             [numpy_helper.from_array(np.float32(6), "high")]))

# ---- weights
shared = weight("table", 32, 8)
copy = numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(shared).T), "head")
alike = numpy_helper.from_array(numpy_helper.to_array(shared), "again")
ones = [numpy_helper.from_array(np.ones((8, 8), np.float32), name) for name in ("ones_a", "ones_b")]
save("tied", model([node("Gather", ["table", "ids"], ["e"], name="embed"), node("MatMul", ["e", "head"], ["logits"], name="head"),
                    node("Gather", ["again", "ids"], ["f"], name="embed2"), node("MatMul", ["f", "ones_a"], ["g"], name="g"),
                    node("MatMul", ["g", "ones_b"], ["h"], name="h")],
                   [tensor("ids", [2, 3], TensorProto.INT64)], [tensor("logits", [2, 3, 32]), tensor("h", [2, 3, 8])],
                   [shared, copy, alike] + ones))
half = helper.make_tensor("w", TensorProto.BFLOAT16, [4, 3], np.arange(12, dtype=np.uint16).tobytes(), raw=True)
save("bfloat16", model([node("Cast", ["x"], ["h"], to=TensorProto.BFLOAT16), node("MatMul", ["h", "w"], ["p"], name="fc"),
                        node("Cast", ["p"], ["y"], to=TensorProto.FLOAT)], [x24], [y23], [half]))
packed = helper.make_tensor("w", TensorProto.FLOAT, [4, 3], rng.standard_normal(12).astype(np.float32))
save("float-data", model([node("MatMul", ["x", "w"], ["y"], name="fc")], [x24], [y23], [packed]))
one_by_one = helper.make_tensor("w", TensorProto.FLOAT16, [4, 3], np.arange(12, dtype=np.float16))
save("half-in-ints", model([node("MatMul", ["x", "w"], ["y"], name="fc")], [x24], [y23], [one_by_one]))

# ---- control, sequences
branch = lambda op: helper.make_graph([node(op, ["x"], ["r"], name="inner")], op, [], [tensor("r", [2, 4])])
save("if", model([node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"]), node("Equal", ["n", "two"], ["c"]),
                  node("If", ["c"], ["y"], name="choice", then_branch=branch("Exp"), else_branch=branch("Neg"))],
                 [x24], [tensor("y", [2, 4])], [ints("zero", 0, ()), ints("two", 2, ())]))
save("if-data", model([node("If", ["c"], ["y"], name="choice", then_branch=branch("Exp"), else_branch=branch("Neg"))],
                      [x24, tensor("c", [], TensorProto.BOOL)], [tensor("y", [2, 4])]))
save("sequence", model([node("SplitToSequence", ["x", "one"], ["s"], name="split", axis=1), node("SequenceAt", ["s", "last"], ["y"], name="at")],
                       [x24], [tensor("y", [2, 1])], [ints("one", 1, ()), ints("last", -1, ())]))
save("dropout", model([node("Dropout", ["x", "ratio", "mode"], ["y"], name="drop")], [x24], [tensor("y", [2, 4])],
                      [numpy_helper.from_array(np.float32(0.5), "ratio"), numpy_helper.from_array(np.bool_(True), "mode")]))

# ---- ONNX Runtime's operations, as its builder of generative models writes them: 2 heads of 4, 1 key head, cache empty
ms = "com.microsoft"
save("runtime-ops", model(
    [node("Gather", ["embed", "input_ids"], ["e"], name="embed"),
     node("SimplifiedLayerNormalization", ["e", "norm"], ["n"], name="norm", axis=-1, epsilon=1e-6, stash_type=1),
     node("MatMul", ["n", "qkv"], ["p"], name="qkv"),
     node("ReduceSum", ["attention_mask", "one"], ["length"], name="length"), node("Sub", ["length", "one"], ["last"], name="last"),
     node("Cast", ["last"], ["seqlens"], to=TensorProto.INT32), node("Shape", ["attention_mask"], ["s"]),
     node("Gather", ["s", "first"], ["t"], axis=0), node("Cast", ["t"], ["total"], to=TensorProto.INT32),
     node("GroupQueryAttention", ["p", "", "", "past_key_values.0.key", "past_key_values.0.value", "seqlens", "total", "cos", "sin"],
          ["a", "present.0.key", "present.0.value"], name="attention", domain=ms, num_heads=2, kv_num_heads=1, do_rotary=1,
          local_window_size=3),
     node("MatMul", ["a", "o"], ["d"], name="o"),
     node("SkipSimplifiedLayerNormalization", ["e", "d", "norm2"], ["m", "", "", "r"], name="skip", domain=ms, epsilon=1e-6),
     node("QuickGelu", ["m"], ["g"], name="gelu", domain=ms, alpha=1.0), node("Add", ["g", "r"], ["h"], name="residual"),
     node("FusedMatMul", ["h", "head"], ["logits"], name="head", domain=ms, transB=1, alpha=0.5)],
    [tensor("input_ids", ["batch", "sequence"], TensorProto.INT64), tensor("attention_mask", ["batch", "total"], TensorProto.INT64),
     tensor("past_key_values.0.key", ["batch", 1, "past", 4]), tensor("past_key_values.0.value", ["batch", 1, "past", 4])],
    [tensor("logits", ["batch", "sequence", 16]), tensor("present.0.key", ["batch", 1, "total", 4]),
     tensor("present.0.value", ["batch", 1, "total", 4])],
    [weight("embed", 16, 8), weight("norm", 8), weight("qkv", 8, 16), weight("o", 8, 8), weight("norm2", 8), weight("head", 16, 8),
     weight("cos", 32, 2), weight("sin", 32, 2), ints("one", [1]), ints("first", 1, ())],
    extra_opsets=[(ms, 1)]))

# ---- convolutions: patches that do not overlap, and a padded one in groups
image = tensor("x", [1, 4, 6, 6])
save("conv", model([node("Conv", ["x", "patch"], ["p"], name="patches", strides=[3, 3]),
                    node("Conv", ["x", "w", "b"], ["c"], name="grouped", group=2, pads=[1, 1, 1, 1], strides=[2, 2]),
                    node("MaxPool", ["c"], ["m"], name="pool", kernel_shape=[2, 2])],
                   [image], [tensor("p", [1, 5, 2, 2]), tensor("m", [1, 6, 2, 2])], [weight("patch", 5, 4, 3, 3), weight("w", 6, 2, 3, 3), weight("b", 6)]))

# ---- dropout of attention's probabilities in each of its modes: by default and explicitly switched off, a ratio of 0, on
q5 = tensor("q", [1, 2, 5, 4])
for name, inputs in {"default": ["p", "tenth"], "off": ["p", "tenth", "false"], "zero": ["p", "zero", "true"],
                     "on": ["p", "tenth", "true"]}.items():
    save("attention-dropout-" + name, model(
        [node("Transpose", ["q"], ["k"], perm=[0, 1, 3, 2]), node("MatMul", ["q", "k"], ["s"]),
         node("Softmax", ["s"], ["p"], axis=-1), node("Dropout", inputs, ["d"], name="drop"), node("MatMul", ["d", "q"], ["y"])],
        [q5], [tensor("y", [1, 2, 5, 4])],
        [numpy_helper.from_array(np.float32(0.1), "tenth"), numpy_helper.from_array(np.float32(0), "zero"),
         numpy_helper.from_array(np.bool_(True), "true"), numpy_helper.from_array(np.bool_(False), "false")]))

# ---- edges of the standard
statistics = [weight(name, 3) for name in ("scale", "bias", "mean", "variance")]
names = ["x", "scale", "bias", "mean", "variance"]
save("batch-norm-trained", model([node("BatchNormalization", names, ["y", "m", "v", "sm", "sv"], name="norm")], [tensor("x", [2, 3, 4])],
                                 [tensor("y", [2, 3, 4])], statistics, opset=13))
save("batch-norm-vector", model([node("BatchNormalization", ["x", "s1", "s1", "s1", "s1"], ["y"], name="norm")], [tensor("x", [5])],
                                [tensor("y", [5])], [numpy_helper.from_array(np.ones(1, np.float32), "s1")]))
save("slice-before", model([node("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"], name="first")], [x24], [tensor("y", [2, 1])],
                           [ints("starts", [-9]), ints("ends", [-99]), ints("axes", [1]), ints("steps", [-1])]))
save("sequence-empty", model([node("SequenceEmpty", [], ["s"]), node("SequenceErase", ["s"], ["t"], name="erase"),
                              node("SequenceLength", ["t"], ["n"]), node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
                              node("Add", ["x", "f"], ["y"])], [x24], [tensor("y", [2, 4])]))
save("conv-one-channel", model([node("Conv", ["x", "w", "b"], ["y"], name="last")], [tensor("x", [1, 2, 4, 4])], [tensor("y", [1, 1, 4, 4])],
                               [weight("w", 1, 2, 1, 1), weight("b", 1)]))
save("depth-to-space-mode", model([node("DepthToSpace", ["x"], ["y"], name="pixels", blocksize=2, mode="DRC")], [tensor("x", [1, 4, 2, 2])],
                                  [tensor("y", [1, 1, 4, 4])]))
