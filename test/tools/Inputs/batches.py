"""batches.py FROM TO TENSOR INDEX VALUE: copies a safetensors file with one element of an i64 tensor replaced.
batches.py FROM TO --entries FIRST LAST: copies entries [FIRST, LAST) of every tensor."""
import json
import struct
import sys

source, target, what, first, second = sys.argv[1:]
with open(source, "rb") as file:
    header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    data = bytearray(file.read())
tensors = {name: info for name, info in header.items() if name != "__metadata__"}
if what == "--entries":
    kept = bytearray()
    for name, info in tensors.items():
        begin, end = info["data_offsets"]
        size = (end - begin) // info["shape"][0]
        piece = data[begin + int(first) * size:begin + int(second) * size]
        info["shape"][0] = int(second) - int(first)
        info["data_offsets"] = [len(kept), len(kept) + len(piece)]
        kept += piece
    data = kept
else:
    assert tensors[what]["dtype"] == "I64"
    struct.pack_into("<q", data, tensors[what]["data_offsets"][0] + 8 * int(first), int(second))
text = json.dumps(tensors).encode()
open(target, "wb").write(struct.pack("<Q", len(text)) + text + data)
