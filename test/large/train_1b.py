#!/usr/bin/env python3
"""Two steps of Llama-3.2-1B's shape with random weights, at 1 x 512 tokens in bf16 with full checkpointing and linear
cross-entropy: train_1b.py BIN WORK. The process may not take more than was promised and a stated constant, and the loss
of the same tokens has to fall. Needs about 10 GiB of memory and three minutes on two cores.
"""
import json
import os
import pathlib
import random
import struct
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What the program, its libraries, stacks and the staged data may take beside the arena.
ABOVE_PROMISE = 64 << 20
VOCABULARY, TOKENS, STEPS = 128256, 512, 2


def main():
    binaries, work = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    work.mkdir(parents=True, exist_ok=True)
    plan, data, log, inspected = (work / name for name in ("1b.amplan", "1b.bin", "1b.jsonl", "1b.json"))
    log.unlink(missing_ok=True)
    subprocess.run([binaries / "amc", "compile", ROOT / "models/llama-3.2-1b.onnx", "-o", plan, "--precision=bf16",
                    "--shape", f"input_ids=1x{TOKENS}", "--ac=full", "--loss-impl=linear-cross-entropy"],
                   check=True, stderr=subprocess.DEVNULL)
    promised = json.loads(subprocess.run([binaries / "amc", "inspect", plan, "--json"], check=True, capture_output=True,
                                         text=True).stdout)["peak_bytes"]
    random.seed(1)
    data.write_bytes(struct.pack(f"<{TOKENS}I", *(random.randrange(VOCABULARY) for _ in range(TOKENS))))
    command = [binaries / "amrun", plan, "--data", data, "--token-dtype", "u32", "--init", "seed:1", "--lr", "1e-4",
               "--steps", str(STEPS), "--log-json", log]
    with open(work / "1b.err", "w") as err:
        process = subprocess.Popen(command, stderr=err, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit((work / "1b.err").read_text())
    resident = usage.ru_maxrss * 1024
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    for step in steps:
        print(f"step {step['step']}: loss {step['loss']:.4f}, grad_norm {step['grad_norm']:.4f}, mem {step['mem']}, {step['tps']:.1f} tokens/s")
    print(f"promised {promised} bytes, most resident {resident}, {resident - promised:+d}; {ABOVE_PROMISE} allowed")
    wrong = []
    if len(steps) != STEPS or any(step["mem"] != promised for step in steps):
        wrong.append("the arena is not what was promised")
    if resident > promised + ABOVE_PROMISE:
        wrong.append("more memory is resident than was promised and allowed")
    if not steps[-1]["loss"] < steps[0]["loss"]:
        wrong.append("the loss of the same tokens did not fall")
    sys.exit("; ".join(wrong) or 0)


if __name__ == "__main__":
    main()
