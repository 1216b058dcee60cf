#!/usr/bin/env python3
"""Packs ONNX's backend node tests into one file, so that testing needs no package index.

    python3 -m venv venv && venv/bin/pip install onnx==1.19.0
    venv/bin/python test/conformance/pack.py OUT [--installed /usr/share/libonnx-testdata/data/node]

Takes every case of the installed `onnx` Python package except those that Debian's libonnx-testdata holds byte for byte
(the tests read that package where it is installed) and those with more than LIMIT new bytes.

The file: "AMCCASES", u64 size of what follows when unpacked, then a zlib stream of: u32 number of blobs, each u64 size
and bytes; u32 number of files, each u32 length of its path (CASE/FILE), path, u32 index of its blob. Little-endian.
Equal files share a blob. The same input gives the same bytes.
"""
import argparse
import importlib.util
import os
import struct
import zlib

LIMIT = 300_000


def read_case(folder):
    files = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            with open(path, "rb") as file:
                files[os.path.relpath(path, folder)] = file.read()
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--installed", default="/usr/share/libonnx-testdata/data/node")
    arguments = parser.parse_args()

    # Found without importing the package: that would read its C++ extension and numpy.
    package = os.path.dirname(importlib.util.find_spec("onnx").origin)
    source = os.path.join(package, "backend", "test", "data", "node")
    blobs, files, cases, left_out = {}, [], 0, []
    for case in sorted(os.listdir(source)):
        content = read_case(os.path.join(source, case))
        if "model.onnx" not in content or content == read_case(os.path.join(arguments.installed, case)):
            continue
        if sum(len(data) for data in set(content.values()) if data not in blobs) > LIMIT:
            left_out.append(case)
            continue
        cases += 1
        for path in sorted(content):
            index = blobs.setdefault(content[path], len(blobs))
            files.append((f"{case}/{path}".encode(), index))

    parts = [struct.pack("<I", len(blobs))]
    for data in blobs:
        parts += [struct.pack("<Q", len(data)), data]
    parts.append(struct.pack("<I", len(files)))
    for path, index in files:
        parts += [struct.pack("<I", len(path)), path, struct.pack("<I", index)]
    raw = b"".join(parts)
    with open(arguments.out, "wb") as out:
        out.write(b"AMCCASES" + struct.pack("<Q", len(raw)) + zlib.compress(raw, 9))
    print(f"{cases} cases, {len(raw)} bytes, packed into {os.path.getsize(arguments.out)}")
    for case in left_out:
        print(f"left out, too large: {case}")


if __name__ == "__main__":
    main()
