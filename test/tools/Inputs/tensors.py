"""Writes safetensors files from lists of numbers, for the scripts beside it."""
import json
import struct


def write(path, tensors):
    """`tensors`: name, dtype as safetensors calls it, shape, dtype as struct does, numbers."""
    header, data = {}, b""
    for name, kind, shape, form, values in tensors:
        packed = struct.pack("<%d%s" % (len(values), form), *values)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)
