"""set_token.py FROM TO TENSOR ELEMENT VALUE: a safetensors file with one element of an int64 tensor changed."""
import json
import struct
import sys

source, target, name, element, value = sys.argv[1:]
data = bytearray(open(source, "rb").read())
size, = struct.unpack("<Q", data[:8])
begin = 8 + size + json.loads(data[8:8 + size])[name]["data_offsets"][0] + 8 * int(element)
data[begin:begin + 8] = struct.pack("<q", int(value))
open(target, "wb").write(data)
