"""levels.py TOOLS WORK FIXTURE...: one plan at both levels of the instruction set, AMC_ISA=v3 and v4.

Generated kernels have the same bits at both (unit-codegen); matrix products and attention, whose sums a library or vectors of
another width add up in another order, do not have to. So this measures how far a training run is apart: the first batch's
gradients, each beside its own norm (or a thousandth of all gradients' norm, where it has less), and ten losses. Prints a line a
fixture; exits 1 if a loss is off by more than 1e-5, or a gradient by 1e-4. Where the processor has one level alone there is
nothing to measure: exit code 77.
"""
import argparse
import json
import math
import os
import struct
import sys

from budgets import run
from decisions import open_fixture


def tensors(data):
    """Names to lists of floats, of a safetensors file's fp32 tensors."""
    size, = struct.unpack("<Q", data[:8])
    found = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            found[name] = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
    return found


def train(fixture, plan, level):
    os.environ["AMC_ISA"] = level
    said = run([os.path.join(fixture.tools, "amrun"), plan, "--data", fixture.data, "--steps", "1"]).stderr
    if f"x86-64-{level}" not in said:
        sys.exit(f"levels.py: with AMC_ISA={level} amrun says\n{said}")
    (gradients, weights, steps), _ = fixture.train(plan)
    return tensors(gradients), [loss for loss, _ in json.loads(steps)], weights


def check(fixture):
    plan = os.path.join(fixture.work, "plan")
    fixture.compile(plan, [])
    ours, losses, weights = train(fixture, plan, "v3")
    theirs, others, other_weights = train(fixture, plan, "v4")
    loss_offs = [abs(a - b) / abs(b) for a, b in zip(losses, others)]
    worst, where = 0.0, "none"
    norms = {name: math.sqrt(sum(x * x for x in gradient)) for name, gradient in ours.items()}
    least = 1e-3 * math.sqrt(sum(norm ** 2 for norm in norms.values()))  # what vanishes is rounding alone
    for name, gradient in ours.items():
        off = math.sqrt(sum((a - b) ** 2 for a, b in zip(gradient, theirs[name]))) / max(norms[name], least)
        if not off <= worst:
            worst, where = off, name
    same = ours == theirs and weights == other_weights
    good = all(off <= 1e-5 for off in loss_offs) and worst <= 1e-4
    print(f"{fixture.name:14} x86-64-v3 beside x86-64-v4: {'the same bits' if same else 'other bits'}, losses within {max(loss_offs):.1e}, "
          f"gradients within {worst:.1e} ({where})  {'ok' if good else 'FAILED'}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools")
    parser.add_argument("work")
    parser.add_argument("fixtures", nargs="+")
    options = parser.parse_args()
    with open("/proc/cpuinfo") as file:
        flags = file.read()
    if not all(f" {flag}" in flags for flag in ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")):
        print("this processor has no AVX-512: there is one level")
        sys.exit(77)
    sys.exit(0 if all([check(open_fixture(options.tools, options.work, folder)) for folder in options.fixtures]) else 1)


if __name__ == "__main__":
    main()
