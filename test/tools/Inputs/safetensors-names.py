"""Prints the tensor names of a safetensors file, sorted."""
import json
import struct
import sys

with open(sys.argv[1], "rb") as file:
    header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
print("\n".join(sorted(name for name in header if name != "__metadata__")))
