"""quick-gelu.py DATA: three entries of data for quick-gelu.onnx."""
import json
import struct
import sys

tensors = [("x", "F32", [3, 4, 128, 8], "f", [((7 * i) % 23 - 11) / 7 for i in range(3 * 4096)]),
           ("labels", "I64", [3, 4, 128], "q", [(5 * i) % 8 for i in range(3 * 512)])]
header, data = {}, b""
for name, kind, shape, form, values in tensors:
    packed = struct.pack("<%d%s" % (len(values), form), *values)
    header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
    data += packed
text = json.dumps(header).encode()
open(sys.argv[1], "wb").write(struct.pack("<Q", len(text)) + text + data)
