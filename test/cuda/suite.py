#!/usr/bin/env python3
"""suite.py BUILD [PART…]: a CUDA device against the CPU's tests.

  kernels    every kernel against formulas in double precision (unit-runtime's tests, on the GPU)
  parity     loss, gradients, ten steps and weights of four models against PyTorch's; none, full and selective the same bits
  bf16       the same in bf16, within bounds for that
  decisions  every decision about memory, budgets included: the same bits; the arena is what was promised
  budgets    budgets between the smallest arena and keeping everything, kept to the byte
  ranks      fsdp2 on two and four ranks, hsdp, tensor, context and expert parallelism, joined by NCCL, against one rank

--quick: less of each part, and of the last three nothing: what every run of the tests has.
--emulated: on the emulated device of test/emulated_cuda (CPU, PTX level; not NVIDIA hardware) instead of this machine's
GPU. What the emulated driver finds (races, bounds, order …) fails the run that it was found in, whatever its numbers are.
--target: of the plans; by default the newest that this GPU runs. Exits 1 if any part fails.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGETS = [80, 90, 100]
# Of unit-runtime, those about kernels; and whether they take long on the emulated device.
KERNEL_TESTS = {"RuntimeCuda.*": False, "RuntimeProducts.Matmul*": False, "RuntimeProducts.Linear*": False, "RuntimeRows.*": True, "RuntimeMovement.*": True, "RuntimeIndices.*": True,
                "RuntimeProducts.*": True, "RuntimeAttention.*": True, "RuntimeElementwise.*": True,
                "RuntimeLinearLoss.*": True, "RuntimeDispatch.*": False, "Dropout.*": True, "RuntimeBf16.*": True,
                "RuntimeMutations.*": True, "RuntimeWide.*": True}


def fixtures(*names):
    return [str(ROOT / "test/fixtures" / name) for name in names]


def commands(build, work, quick):
    """Of each part."""
    tools, parity = build / "bin", ROOT / "test/parity"
    four = fixtures("llama", "gpt2", "gemma3", "mixtral")
    kernels = ":".join(name for name, slow in KERNEL_TESTS.items() if not (quick and slow))
    if quick:
        return {"kernels": [[tools / "unit-runtime", "--gtest_filter=" + kernels]],
                "parity": [[tools / "amc-parity", tools, work / "parity", *four[:1]]],
                "bf16": [[tools / "amc-parity", "--bf16", tools, work / "bf16", *four[:1]]]}
    return {
        "kernels": [[tools / "unit-runtime", "--gtest_filter=" + kernels]],
        "parity": [[tools / "amc-parity", tools, work / "parity", *four]],
        "bf16": [[tools / "amc-parity", "--bf16", tools, work / "bf16", *four]],
        "decisions": [[sys.executable, parity / "decisions.py", tools, work / "decisions", *fixtures("llama", "gpt2")]],
        "budgets": [[sys.executable, parity / "budgets.py", "--budgets", "3", tools, work / "budgets", *four]],
        "ranks": [[sys.executable, parity / "ranks.py", "--meshes", meshes, tools, work / "ranks", *fixtures(name)]
                  for name, meshes in (("llama", "fsdp2-2,fsdp2-4,hsdp-2x2,tp-2-sp,cp-4-gather"), ("mixtral", "ep-2,ep-2-tp-2"))],
    }


def capability():
    """Of this machine's first GPU, times ten."""
    try:
        said = subprocess.run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"], capture_output=True,
                              text=True, check=True).stdout
        return int(said.splitlines()[0].replace(".", ""))
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError) as error:
        sys.exit(f"suite.py: nvidia-smi does not say what GPU this is ({error}); name one with --target, or use --emulated")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--emulated", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--target")
    options = parser.parse_args()
    build = options.build.resolve()
    environment = dict(os.environ)
    if options.emulated:
        libraries = build / "test/emulated_cuda/lib"
        if not (libraries / "libcuda.so.1").exists():
            sys.exit(f"suite.py: {libraries}/libcuda.so.1 is not there: the emulated device is built where nvcc is")
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, [str(libraries), environment.get("LD_LIBRARY_PATH")]))
        target = options.target or "cuda:sm_90"
    else:
        target = options.target
        if not target:
            known = [t for t in TARGETS if t <= capability()]
            if not known:
                sys.exit(f"suite.py: this GPU is older than sm_{TARGETS[0]}")
            target = f"cuda:sm_{known[-1]}"
    environment["AMC_TEST_TARGET"] = target
    work = build / (("emulated-cuda" if options.emulated else "cuda") + ("-quick" if options.quick else ""))
    all_parts = commands(build, work, options.quick)
    unknown = [part for part in options.parts if part not in all_parts]
    if unknown:
        sys.exit(f"suite.py: no part {', '.join(unknown)}; there are {', '.join(all_parts)}")
    failed = []
    for part in options.parts or all_parts:
        begin = time.monotonic()
        print(f"== {part} on {target}{' (emulated)' if options.emulated else ''}", flush=True)
        codes = [subprocess.run([str(word) for word in command], env=environment).returncode
                 for command in all_parts[part]]
        print(f"== {part}: {'ok' if not any(codes) else 'FAILED'} after {time.monotonic() - begin:.0f} s", flush=True)
        if any(codes):
            failed.append(part)
    sys.exit(f"suite.py: failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
