"""Weights that fixtures are trained to, with instructions one after the other (--verbose) and, with 1, 2 and 5 threads, beside
each other: check-order.py FIXTURES FOLDER. Says what differs."""
import pathlib
import re
import subprocess
import sys

fixtures, folder = map(pathlib.Path, sys.argv[1:])
FLAGS = [["--ac=none"], ["--ac=full", "--tile-mlp=on"], ["--ac=selective", "--precision=bf16"],
         ["--optimizer-in-backward=on", "--max-grad-norm=0"]]
plan, weights = folder / "m.amplan", folder / "weights"


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True).stderr


for model in ("llama", "gpt2", "mixtral", "gemma3"):
    for flags in FLAGS:
        run("amc", "compile", fixtures / model / "model.onnx", *flags, "-o", plan)
        train = ["amrun", plan, "--data", fixtures / model / "batches.safetensors", "--steps", 3, "--save-weights", weights]
        notes = run(*train, "--verbose")
        alone = weights.read_bytes()
        paired = re.search(r"tile by tile behind a product, but while kernels are timed: (\d+) generated kernel", notes)
        assert paired and int(paired[1]) > 0, f"{model} {flags}: nothing runs tile by tile"
        for threads in (1, 2, 5):
            run(*train, "--threads", threads)
            assert weights.read_bytes() == alone, f"{model} {flags}: other bits with {threads} threads"
