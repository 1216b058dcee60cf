#!/usr/bin/env python3
"""Instructions of a step beside its matrix products, counted by callgrind: a measure that a noisy machine does not change.

  test/bench/instructions.py [--update]

One step of two small models on one thread, under valgrind (Debian package valgrind; it knows no AVX-512, so AMC and its
libraries run at their AVX2 level). Counted is what runs inside Executor::runMicroBatch and runUpdate, with a dump before
each kernel, so that every instruction of the plan has its own count; they are added up by kernel. What runs in the library
that multiplies, and in code that it generates, is one line, which is shown and not compared; generated code of kernels that
do not multiply is the plan's, and theirs. Each kernel is held against
instructions.json beside this file: more than --tolerance (2 %) and a thousandth of the whole are a regression, and the exit
code 1; less is a better baseline, which --update writes. Counts are exact for one compiler and one build type (the `dev`
preset); another compiler gives others.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASELINE = pathlib.Path(__file__).with_suffix(".json")
MODELS = {  # graph, flags of amc
    "llama": ("test/fixtures/llama-tied-ts17/model.onnx", ["--shape", "input_ids=4x128", "--ac=selective"]),
    "gpt2": ("test/fixtures/gpt2/model.onnx", ["--loss-impl=linear-cross-entropy"]),
}
LIBRARY, GENERATED = re.compile(r"openblas|libdnnl|libmkl"), re.compile(r"^$|\?\?\?")
KERNEL = "*CpuDevice::execute(amc::rt::Kernel const&, amc::rt::Operands const&)"
SECTIONS = ["amc::rt::Executor::runMicroBatch()", "amc::rt::Executor::runUpdate()"]


def count(path):
    """Of each dump in a callgrind file (instructions beside products, those of products): cost of each line, not of what it
    calls. Generated code is the library's where the library runs."""
    names, found = {}, []
    library, skip = "", False

    def name(kind, text):
        number, _, rest = text.partition(" ")
        if number.startswith("("):
            key = (kind, number)
            if rest:
                names[key] = rest
            return names.get(key, "???")
        return text

    for line in open(path):
        line = line.rstrip("\n")
        if line.startswith("part:"):
            found.append([0, 0, 0])
        elif line.startswith("ob="):
            library = name("ob", line[3:])
        elif line.startswith("cob="):
            name("ob", line[4:])
        elif line.startswith("calls="):
            skip = True  # the next line is the cost of what is called
        elif re.match(r"[+\-*\d]", line):
            if not skip:
                where = 1 if LIBRARY.search(library) else 2 if GENERATED.search(library) else 0
                found[-1][where] += int(line.split()[1])
            skip = False
    return [(own, library + generated) if library else (own + generated, 0) for own, library, generated in found]


def kernels_of(arguments, plan, text, folder):
    """The plan's kernels in their order, as the trace of a step has them."""
    trace = folder / "trace.json"
    subprocess.run([str(arguments.bin / "amrun"), str(plan), "--data", str(text), "--steps", "1", "--threads", "1", "--profile",
                    str(trace)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    events = [event for event in json.loads(trace.read_text())["traceEvents"] if "instruction" in event.get("args", {})]
    return [event["name"] for event in sorted(events, key=lambda event: event["args"]["instruction"])]


def measure(arguments, model, folder):
    graph, flags = MODELS[model]
    plan, text, out = folder / f"{model}.amplan", folder / "text", folder / f"{model}.callgrind"
    subprocess.run([str(arguments.bin / "amc"), "compile", str(ROOT / graph), "-o", str(plan), *flags], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    random.seed(1)
    text.write_bytes(bytes(random.randrange(1, 200) for _ in range(1 << 14)))
    environment = dict(os.environ, AMC_ISA="v3", OPENBLAS_CORETYPE="Haswell", ONEDNN_MAX_CPU_ISA="AVX2", LC_ALL="C")
    # --verbose: instructions one after the other
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--combine-dumps=yes",
               f"--dump-before={KERNEL}", *[f"--toggle-collect={s}" for s in SECTIONS],
               str(arguments.bin / "amrun"), str(plan), "--data", str(text), "--steps", "1", "--threads", "1",
               "--verbose"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0 or "loss" not in done.stdout:
        raise SystemExit(f"failed: {' '.join(command)}\n{done.stderr}")
    dumps, kernels = count(out), kernels_of(arguments, plan, text, folder)
    if len(dumps) != len(kernels) + 1:  # the first is what runs before the first kernel
        raise SystemExit(f"{model}: {len(dumps)} dumps of {len(kernels)} kernels")
    found = collections.Counter({"products": sum(products for _, products in dumps)})
    for kernel, (beside, _) in zip(kernels, dumps[1:]):
        found[kernel] += beside
    return found


def compare(model, found, baseline, tolerance):
    """Prints the counts, and gives the regressions."""
    whole = sum(n for kernel, n in found.items() if kernel != "products")
    print(f"{model}: {whole:,} instructions beside the products ({found['products']:,})")
    worse = []
    for kernel, n in sorted(found.items(), key=lambda item: -item[1]):
        if kernel == "products" or (n < whole / 1000 and kernel not in baseline):
            continue
        before = baseline.get(kernel, 0)
        change = f"{100 * (n / before - 1):+7.1f} %" if before else "     new"
        bad = n > before * (1 + tolerance) + whole / 1000
        print(f"  {n:>14,} {100 * n / whole:5.1f} % {change}  {kernel}{'  WORSE' if bad and baseline else ''}")
        if bad and baseline:
            worse.append(f"{model}, {kernel}: {before:,} before, {n:,} now")
    return worse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--tolerance", type=float, default=0.02)
    parser.add_argument("--update", action="store_true", help="write the baseline")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/bin")
    arguments = parser.parse_args()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    worse = []
    with tempfile.TemporaryDirectory() as folder:
        for model in arguments.models:
            found = measure(arguments, model, pathlib.Path(folder))
            worse += compare(model, found, {} if arguments.update else baseline.get(model, {}), arguments.tolerance)
            least = sum(found.values()) / 10000
            baseline[model] = {kernel: n for kernel, n in sorted(found.items()) if n >= least and kernel != "products"}
    if arguments.update:
        BASELINE.write_text(json.dumps(baseline, indent=2, sort_keys=True) + "\n")
        print(f"{BASELINE.name} written")
    elif worse:
        sys.exit("more instructions than before:\n  " + "\n  ".join(worse))


if __name__ == "__main__":
    main()
