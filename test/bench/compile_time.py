#!/usr/bin/env python3
"""Compile time of llamas of growing depth: seconds, ONNX nodes, and how the time grows with them.

  models/make-venv && .venv-models/bin/python test/bench/compile_time.py [--layers 5 10 26 52]

A layer is about 193 nodes, so the defaults reach 10,000. Each graph is compiled --rounds times with --ac=selective; the
median counts. An exponent of 1 is linear. The plans are checked to be the same bytes every time.
"""
import argparse
import hashlib
import math
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[5, 10, 26, 52])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ac", default="selective")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/bin")
    parser.add_argument("--cache", type=pathlib.Path, default=ROOT / "build/bench")
    arguments = parser.parse_args()
    import onnx
    before = None
    for layers in arguments.layers:
        path = arguments.cache / f"llama-layers-{layers}" / "model.onnx"
        if not path.exists():
            subprocess.run([sys.executable, str(ROOT / "models/export.py"), f"llama-layers-{layers}", str(path)],
                           check=True, stdout=subprocess.DEVNULL)
        nodes = len(onnx.load(path, load_external_data=False).graph.node)
        seconds, digests = [], set()
        for _ in range(arguments.rounds):
            plan = path.with_suffix(".amplan")
            begin = time.perf_counter()
            subprocess.run([str(arguments.bin / "amc"), "compile", str(path), "-o", str(plan), f"--ac={arguments.ac}",
                            "--shape", "input_ids=4x256"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - begin)
            digests.add(hashlib.sha256(plan.read_bytes()).hexdigest())
        if len(digests) != 1:
            raise SystemExit(f"{layers} layers: {len(digests)} different plans from one graph")
        now = statistics.median(seconds)
        growth = ""
        if before:
            growth = f", grows with nodes to the power {math.log(now / before[1]) / math.log(nodes / before[0]):.2f}"
        print(f"{layers:4} layers, {nodes:6} nodes: {now:6.2f} s ({min(seconds):.2f} to {max(seconds):.2f}){growth}", flush=True)
        before = nodes, now


if __name__ == "__main__":
    main()
