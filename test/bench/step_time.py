#!/usr/bin/env python3
"""Step time and peak memory of AMC against PyTorch eager, side by side, on models of about 100 M parameters.

  models/make-venv && .venv-models/bin/python test/bench/step_time.py [--models llama-100m gpt2-124m]

Rounds alternate between the two, each in a process of its own, so that a machine whose speed drifts is unfair to both
alike. Before any time is printed the two losses are compared: same weights, same tokens, AdamW on every parameter,
gradients clipped to 1.0, fp32. Step times are medians over all rounds without each process's first step; memory is the
process's peak resident set.
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models"))


def peer(arguments):
    """One round of PyTorch: prints {"losses", "seconds", "rss"}; runs in a process of its own."""
    import export
    import safetensors.torch
    import torch
    import torch.nn.functional as F
    torch.set_num_threads(arguments.threads)
    model = export.build(arguments.models[0]).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    step = torch.compile(model) if arguments.compile else model
    batches = safetensors.torch.load_file(arguments.peer)
    losses, seconds = [], []
    for ids, labels in zip(batches["input_ids"], batches["labels"]):
        begin = time.perf_counter()
        logits = step(input_ids=ids).logits
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begin)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"losses": losses, "seconds": seconds, "rss": rss}))


def run_peer(arguments, model, batches):
    command = [sys.executable, __file__, "--models", model, "--threads", str(arguments.threads), "--peer", str(batches)]
    if arguments.compile:
        command.append("--compile")
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def run_amc(arguments, plan, batches, log):
    log.unlink(missing_ok=True)
    command = [str(arguments.bin / "amrun"), str(plan), "--data", str(batches), "--steps", str(arguments.steps), "--threads",
               str(arguments.threads), "--log-json", str(log), "--verbose"]
    notes = log.with_suffix(".notes")
    with open(notes, "w") as file:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"amrun failed: {' '.join(command)}\n{notes.read_text()}")
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    tokens = arguments.batch * arguments.sequence
    kernels = [line for line in notes.read_text().splitlines() if line.startswith("time in kernels") or " % in " in line]
    return {"kernels": kernels, "losses": [s["loss"] for s in steps], "seconds": [tokens / s["tps"] for s in steps],
            "rss": usage.ru_maxrss * 1024, "mem": steps[-1]["mem"]}


def bench(arguments, model):
    folder = arguments.cache / model
    path = folder / "model.onnx"
    if not path.exists():
        subprocess.run([sys.executable, str(ROOT / "models/export.py"), model, str(path)], check=True,
                       stdout=subprocess.DEVNULL)
    import safetensors.torch
    import torch
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 32000, (arguments.steps, arguments.batch, arguments.sequence), generator=generator)
    batches = folder / "batches.safetensors"
    safetensors.torch.save_file({"input_ids": ids, "labels": ids.clone()}, str(batches))
    plan = folder / f"{arguments.ac}.amplan"
    subprocess.run([str(arguments.bin / "amc"), "compile", str(path), "-o", str(plan), f"--ac={arguments.ac}", "--shape",
                    f"input_ids={arguments.batch}x{arguments.sequence}"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)

    ours, theirs = [], []
    for _ in range(arguments.rounds):
        theirs.append(run_peer(arguments, model, batches))
        ours.append(run_amc(arguments, plan, batches, folder / "log.jsonl"))
    for a, b in zip(ours[0]["losses"], theirs[0]["losses"]):
        if not abs(a - b) <= 1e-4 * abs(b):
            raise SystemExit(f"{model}: the losses differ, no time is worth printing: amc {a}, pytorch {b}")

    def summary(rounds):
        seconds = [s for r in rounds for s in r["seconds"][1:]]
        return statistics.median(seconds), min(seconds), max(seconds), max(r["rss"] for r in rounds)

    name = "torch.compile" if arguments.compile else "pytorch eager"
    (mine, low, high, rss), (other, other_low, other_high, other_rss) = summary(ours), summary(theirs)
    print(f"{model}, {arguments.batch} x {arguments.sequence} tokens, {arguments.threads} threads, ac {arguments.ac}")
    print(f"  amc            {mine:7.3f} s a step ({low:.3f} to {high:.3f}), arena {ours[0]['mem'] / 2**30:.2f} GiB, "
          f"peak resident {rss / 2**30:.2f} GiB")
    print(f"  {name:14} {other:7.3f} s a step ({other_low:.3f} to {other_high:.3f}), "
          f"peak resident {other_rss / 2**30:.2f} GiB")
    print(f"  ratio          {mine / other:7.3f} of its time, {rss / other_rss:.3f} of its memory; "
          f"losses agree to {max(abs(a - b) / abs(b) for a, b in zip(ours[0]['losses'], theirs[0]['losses'])):.1e}")
    print("  where amc's time goes, one round:")
    for line in ours[-1]["kernels"][:9]:
        print("   ", line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["llama-100m", "gpt2-124m"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--sequence", type=int, default=512)
    parser.add_argument("--steps", type=int, default=3, help="a round; the first is not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ac", default="none")
    parser.add_argument("--compile", action="store_true", help="against torch.compile instead of eager")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/bin")
    parser.add_argument("--cache", type=pathlib.Path, default=ROOT / "build/bench")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        peer(arguments)
    else:
        for model in arguments.models:
            bench(arguments, model)


if __name__ == "__main__":
    main()
