#!/usr/bin/env python3
"""Loss curves of bf16 beside fp32, and what a step of either takes.

  test/bench/loss_curves.py [--steps 500] [--rows fp32 bf16 bf16-master]

models/byte-llama.onnx (6 M parameters, one token a byte) from one random initialisation on this repository's own text,
the same batches for all rows, AdamW, clipping, a cosine schedule: once in fp32, in bf16, and in bf16 with master weights
and states of the optimizer in fp32. Of each tenth of the run the mean loss, and how far it is from fp32's; of each row
the median seconds of a step. Exits 1 if bf16 is more than 5 % from fp32 in any tenth, or with master weights 2 %, or if a
step of either takes more than 1.2 times fp32's. Needs neither PyTorch nor an export. AMC_ISA=v3 in the environment makes
the processor one that stores bf16 and computes fp32.
"""
import statistics
import subprocess
import sys

import side_by_side as bench

ROWS = {"fp32": [], "bf16": ["--precision=bf16"],
        "bf16-master": ["--precision=bf16", "--master-weights=fp32", "--optimizer-state=fp32"]}
BOUNDS = {"bf16": 0.05, "bf16-master": 0.02}
SLOWER = 1.2
SHAPE = (8, 256)


def corpus(path):
    """All text that git keeps here, files in order, a zero byte behind each."""
    listed = subprocess.run(["git", "-C", bench.ROOT, "ls-files", "*.md", "*.cpp", "*.h", "*.cu", "*.py", "*.td"], check=True,
                            capture_output=True, text=True).stdout.split()
    path.write_bytes(b"".join((bench.ROOT / name).read_bytes() + b"\0" for name in listed))
    return path


def main():
    parser = bench.parser(__doc__, steps=500, rounds=1)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    arguments = parser.parse_args()
    if arguments.steps < 10:
        parser.error("--steps should be at least 10, which are tenths of one step")
    folder = arguments.cache / "loss-curves"
    folder.mkdir(parents=True, exist_ok=True)
    data, results = corpus(folder / "corpus.txt"), {}
    for row in dict.fromkeys(["fp32", *arguments.rows]):
        plan = bench.compiled(arguments, bench.ROOT / "models/byte-llama.onnx", folder / f"{row}.amplan",
                              "x".join(map(str, SHAPE)), ["--lr=1e-3", "--max-grad-norm=1.0", *ROWS[row]])
        flags = ["--document-separator", "0", "--init", "seed:1", "--seed", "1", "--lr-schedule", "cosine", "--warmup-steps", "20"]
        results[row] = [bench.amc_round(arguments, plan, data, SHAPE[0] * SHAPE[1], flags) for _ in range(arguments.rounds)]
    tenths = [range(i * arguments.steps // 10, (i + 1) * arguments.steps // 10) for i in range(10)]
    means = {row: [statistics.fmean(rounds[0]["losses"][i] for i in steps) for steps in tenths] for row, rounds in results.items()}
    print(f"byte-llama, {SHAPE[0]} x {SHAPE[1]} tokens a step, {arguments.threads} threads; mean losses")
    print("steps       " + "".join(f"{row:>24}" for row in results))
    for i, steps in enumerate(tenths):
        print(f"{steps[0] + 1:>4} to {steps[-1] + 1:<4}" + "".join(
            f"{means[row][i]:>12.4f} ({means[row][i] / means['fp32'][i] - 1:+8.2%}) " for row in results))
    failed, base = [], bench.seconds_of(results["fp32"])
    for row, rounds in results.items():
        seconds = bench.seconds_of(rounds)
        print(f"{row:12} {bench.spread(seconds)} s a step, {seconds[0] / base[0]:.2f} of fp32's, arena {rounds[0]['arena']} bytes")
        off = [abs(a / b - 1) for a, b in zip(means[row], means["fp32"])]
        if not all(part <= BOUNDS.get(row, 0) for part in off):  # not a number is too far, too
            failed.append(f"{row} is {max(off):.2%} from fp32")
        if not seconds[0] <= SLOWER * base[0]:
            failed.append(f"a step of {row} takes {seconds[0] / base[0]:.2f} times fp32's")
    sys.exit(f"loss_curves.py: {'; '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
