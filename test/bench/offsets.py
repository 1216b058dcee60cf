#!/usr/bin/env python3
"""Offsets on public instances: height over the proven bound, and seconds; beside MiniMalloc.

  git clone https://github.com/google/minimalloc && git clone https://github.com/cappadokes/idealloc
  ninja -C build bench-offsets
  test/bench/offsets.py --minimalloc-instances minimalloc/benchmarks/challenging \\
      --idealloc-instances idealloc/benchmarks [--minimalloc minimalloc/build/minimalloc] [--csv half-open:FILE ...]

Their files are not part of this repository. MiniMalloc (built from its repository, cmake -DCMAKE_BUILD_TYPE=Release)
decides whether a capacity is enough: it is given 1,048,576 for its own instances, ours' height for the others, and
--seconds. bench-offsets checks every placement pair by pair before it prints anything. What ends belong to a lifetime
differs: MiniMalloc's files and those of idealloc listed below are half-open; --csv takes closed and open ones, too.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
IDEALLOC = ["somas_tensors/resnet50.csv", "iopddl/G_1.csv", "iopddl/Y_1.csv", "iopddl/S_1.csv",
            "somas_tensors/pangu_2.6B.csv"]


def theirs(binary, path, capacity, seconds):
    with tempfile.NamedTemporaryFile() as out:
        begin = time.perf_counter()
        result = subprocess.run([binary, f"--capacity={capacity}", f"--input={path}", f"--output={out.name}",
                                 f"--timeout={seconds}s", "--validate"], capture_output=True, text=True)
        taken = time.perf_counter() - begin
    if result.returncode == 0 and "Validation PASS" in result.stderr:
        return f"fits, {taken:.2f} s"
    return f"not in {taken:.0f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minimalloc-instances", type=pathlib.Path)
    parser.add_argument("--idealloc-instances", type=pathlib.Path)
    parser.add_argument("--csv", action="append", default=[], metavar="CONVENTION:FILE")
    parser.add_argument("--minimalloc", help="its binary")
    parser.add_argument("--seconds", type=int, default=60, help="for MiniMalloc, an instance")
    parser.add_argument("--alignment", type=int, default=1)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/bin")
    arguments = parser.parse_args()
    instances = []  # convention, path, capacity to fit or None
    if arguments.minimalloc_instances:
        paths = sorted(arguments.minimalloc_instances.glob("*.csv"))
        instances += [("half-open", path, int(path.stem.split(".")[1])) for path in paths]
    if arguments.idealloc_instances:
        instances += [("half-open", arguments.idealloc_instances / name, None) for name in IDEALLOC]
    for given in arguments.csv:
        convention, path = given.split(":", 1)
        instances.append((convention, pathlib.Path(path), None))
    if not instances:
        parser.error("no instances; name a folder or a file")
    print(f"{'instance':22} {'buffers':>7} {'bound':>15} {'ours':>15} {'ratio':>7} {'seconds':>7}  {'rule':28}"
          + ("  MiniMalloc" if arguments.minimalloc else ""))
    failed = []
    for convention, path, capacity in instances:
        if not path.exists():
            raise SystemExit(f"{path}: no such file")
        line = subprocess.run([arguments.bin / "bench-offsets", convention, str(arguments.alignment), path],
                              check=True, capture_output=True, text=True).stdout
        _, buffers, bound, height, seconds, rule = line.strip().split(",", 5)
        row = (f"{path.stem:22} {int(buffers):7,} {int(bound):15,} {int(height):15,} "
               f"{int(height) / int(bound):7.4f} {float(seconds):7.2f}  {rule:28}")
        if capacity and int(height) > capacity:
            failed.append(path.stem)
        if arguments.minimalloc and convention == "half-open":
            row += "  " + theirs(arguments.minimalloc, path, capacity or int(height), arguments.seconds)
        print(row, flush=True)
    if failed:
        sys.exit(f"does not fit: {', '.join(failed)}")


if __name__ == "__main__":
    main()
