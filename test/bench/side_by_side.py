"""What the benchmarks share that run AMC beside something else: models, data, plans, one round of either, summaries.

A round is a process of its own. Rounds of all that is compared alternate, so that a machine whose speed drifts is unfair
to all alike; what is printed are medians over all rounds without each process's first step, and the spread. A benchmark
compares losses before it prints a time.
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
GIB = 2**30


def parser(description, **defaults):
    """With the arguments that all benchmarks have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--steps", type=int, default=defaults.get("steps", 3), help="a round; the first is not counted")
    made.add_argument("--rounds", type=int, default=defaults.get("rounds", 3))
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/bin")
    made.add_argument("--cache", type=pathlib.Path, default=ROOT / "build/bench", help="for models, plans and data")
    return made


def run(command, what):
    """A command's stdout; its own words if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{what} failed: {' '.join(map(str, command))}\n{done.stderr or done.stdout}")
    return done.stdout


def exported(arguments, model):
    """The ONNX file of one of models/export.py's, made if it is not there."""
    path = arguments.cache / model / "model.onnx"
    if not path.exists():
        run([sys.executable, ROOT / "models/export.py", model, path], "the export")
    return path


def random_batches(path, vocabulary, steps, batch, sequence):
    import safetensors.torch
    import torch
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, vocabulary, (steps, batch, sequence), generator=generator)
    safetensors.torch.save_file({"input_ids": ids, "labels": ids.clone()}, str(path))
    return path


def compiled(arguments, model, plan, shape, flags=()):
    run([arguments.bin / "amc", "compile", model, "-o", plan, "--shape", f"input_ids={shape}", *flags], "amc compile")
    return plan


def amc_round(arguments, plan, data, tokens, flags=(), profiled=False):
    """One process of amrun: losses, seconds, peak resident set, arena. `profiled`: also what --profile says of the steps
    that count, whose measuring takes memory of its own, and in which instructions run one after the other."""
    log, notes = pathlib.Path(f"{plan}.jsonl"), pathlib.Path(f"{plan}.notes")
    log.unlink(missing_ok=True)
    command = [arguments.bin / "amrun", plan, "--data", data, "--steps", arguments.steps, "--threads", arguments.threads,
               "--log-json", log, *flags]
    trace = pathlib.Path(f"{plan}.trace.json")
    if profiled:
        command += ["--profile", trace, "--profile-steps", max(1, arguments.steps - 1)]
    with open(notes, "w") as file:
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"amrun failed: {' '.join(map(str, command))}\n{notes.read_text()}")
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    return {"losses": [s["loss"] for s in steps], "seconds": [tokens / s["tps"] for s in steps],
            "profile": json.loads(trace.read_text())["otherData"] if profiled else None,
            "rss": usage.ru_maxrss * 1024, "arena": steps[-1]["mem"]}


def kernel_table(arguments, plan, data, flags=()):
    """What `amrun --verbose` says of where the time goes: a run of its own, because its instructions run one after the other."""
    command = [arguments.bin / "amrun", plan, "--data", data, "--steps", arguments.steps, "--threads", arguments.threads,
               "--verbose", *flags]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"amrun failed: {' '.join(map(str, command))}\n{done.stderr}")
    lines = done.stderr.splitlines()
    table = next(i for i, line in enumerate(lines) if line.startswith("time in kernels"))
    return [lines[table]] + [line for line in lines[table + 1:] if line.startswith("  ") and (" % " in line or " share " in line)]


def peer_round(script, arguments):
    """One process of a benchmark's own `--peer`, which prints its result as JSON on its last line."""
    return json.loads(run([sys.executable, script, *arguments], "PyTorch").splitlines()[-1])


def torch_round(arguments, model, loss_of, device="cpu"):
    """What `--peer` does, in its own process: one round of PyTorch on a model, AdamW on every parameter (on a GPU the fused
    one), gradients clipped to 1.0. `loss_of(input_ids, labels)`. Prints {"losses", "seconds", "rss"}; of a GPU also
    "allocated" and "reserved", the peaks of its allocator."""
    import safetensors.torch
    import torch
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=device != "cpu")
    batches = safetensors.torch.load_file(arguments.peer)
    losses, seconds = [], []
    for ids, labels in zip(batches["input_ids"], batches["labels"]):
        begin = time.perf_counter()
        loss = loss_of(ids.to(device), labels.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begin)
    of_device = {} if device == "cpu" else {"allocated": torch.cuda.max_memory_allocated(),
                                            "reserved": torch.cuda.max_memory_reserved()}
    print(json.dumps({"losses": losses, "seconds": seconds,
                      "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024} | of_device))


def causal_loss(logits, labels):
    import torch.nn.functional as F
    return F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1))


def seconds_of(rounds):
    """Median, least and most, each process's first step left out."""
    seconds = [s for r in rounds for s in r["seconds"][1:]]
    return statistics.median(seconds), min(seconds), max(seconds)


def memory_of(rounds):
    return max(r["rss"] for r in rounds)


def compare_losses(what, ours, theirs, tolerance=1e-4):
    """The largest relative difference; the end if that is too large, or if there is nothing to compare."""
    if len(ours) != len(theirs) or not ours:
        raise SystemExit(f"{what}: {len(ours)} losses beside {len(theirs)}")
    worst = 0
    for a, b in zip(ours, theirs):
        if not abs(a - b) <= tolerance * abs(b):  # not a number is a difference, too
            raise SystemExit(f"{what}: the losses differ, no time is worth printing: {a}, {b}")
        worst = max(worst, abs(a - b) / abs(b))
    return worst


def spread(values):
    median, low, high = values
    return f"{median:8.3f} ({low:.3f} to {high:.3f})"
