"""unread-keys.py DATA WEIGHTS: data of four entries for unread-keys.onnx, and weights for all its initializers, those
that nothing reads included."""
import json
import struct
import sys


def write(path, tensors):
    header, data = {}, b""
    for name, kind, shape, form, values in tensors:
        packed = struct.pack("<%d%s" % (len(values), form), *values)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)


write(sys.argv[1], [("x", "F32", [4, 2, 4, 5], "f", [((7 * i) % 11 - 5) / 5 for i in range(160)]),
                    ("labels", "I64", [4, 2, 4], "q", [i % 5 for i in range(32)])])
write(sys.argv[2], [(name, "F32", [5, 5], "f", [((3 * i + shift) % 7 - 3) / 3 for i in range(25)])
                    for shift, name in enumerate(("q1", "k1", "v1", "q2", "k2"))])
