"""shard-checkpoint.py FROM TO: writes one rank's checkpoint FROM as four ranks would have (dp_shard 2 x tp 2), into TO.
Rows are split over dp_shard; of matrices also columns over tp, and what is left of vectors, unevenly, is on tp 0. Tied
names, which have no state of the optimizer, are left out."""
import json
import os
import shutil
import struct
import sys

source, target = sys.argv[1:]
widths = {"F32": 4, "BF16": 2}
dtypes = {"F32": "f32", "BF16": "bf16"}


def read(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    return {name: (info["dtype"], info["shape"], data[slice(*info["data_offsets"])]) for name, info in header.items()}


def write(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def part(size, members, index):
    piece = -(-size // members)
    return range(min(index * piece, size), min((index + 1) * piece, size))


os.makedirs(target)
index = {"format": 1, "mesh": {"dp_replicate": 1, "dp_shard": 2, "cp": 1, "tp": 2}, "tensors": []}
files = {kind: read(f"{source}/{kind}.safetensors") for kind in ("model", "optimizer")}
trained = {name.split(".", 1)[1] for name in files["optimizer"]}
for kind, tensors in files.items():
    parts = [{} for _ in range(4)]
    for name, (dtype, shape, values) in tensors.items():
        if kind == "model" and name not in trained:
            continue
        splits = [{"dim": 0, "group": "dp_shard", "size": shape[0]}]
        if len(shape) == 2:
            splits.append({"dim": 1, "group": "tp", "size": shape[1]})
        index["tensors"].append({"name": name, "files": kind, "dtype": dtypes[dtype], "shape": shape, "splits": splits})
        width = widths[dtype]
        columns = shape[1] if len(shape) == 2 else 1
        for rank in range(4):
            rows = part(shape[0], 2, rank // 2)
            held = part(columns, 2, rank % 2) if len(shape) == 2 else range(1)
            if len(shape) == 1 and rank % 2 == 1:
                continue
            mine = b"".join(values[(row * columns + held.start) * width:(row * columns + held.stop) * width] for row in rows)
            parts[rank][name] = (dtype, [len(rows), len(held)][:len(shape)], mine)
    for rank in range(4):
        write(f"{target}/{kind}.rank-{rank:05}-of-00004.safetensors", parts[rank])
with open(f"{target}/index.json", "w") as file:
    json.dump(index, file)
shutil.copy(f"{source}/state.json", target)
