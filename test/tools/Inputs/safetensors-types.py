"""Prints how many tensors of each type a safetensors file holds."""
import collections
import json
import struct
import sys

with open(sys.argv[1], "rb") as file:
    (length,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(length))
counts = collections.Counter(entry["dtype"] for name, entry in header.items() if name != "__metadata__")
for dtype, count in sorted(counts.items()):
    print(dtype, count)
