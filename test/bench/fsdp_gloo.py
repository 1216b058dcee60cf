#!/usr/bin/env python3
"""Several ranks on one machine's CPU: AMC's --dp-size against PyTorch's FSDP2 over gloo, side by side.

  models/make-venv && .venv-models/bin/python test/bench/fsdp_gloo.py [--world 2 4] [--ac none full] [--rounds 3]

One Llama of models/export.py, same weights, same tokens; fp32, AdamW on every parameter, gradients clipped to 1.0. Of the
entries of the data file, rank d of N takes entry m * N + d at step m in both. Labels are causal, some are -100 (of another
number on every rank), and the loss is divided by the number of labels of all ranks. Both have cores / N threads a rank, at
least one. Rounds alternate between the two, each in processes of its own. Before any time of a mesh is printed, the losses
and gradient norms of every step of every round are compared (--tolerance). PyTorch's norm is its gradients' in double
precision, taken with the clock stopped: the one it clips by, summed in fp32, was off by up to 3e-4 here, which is printed.

Theirs: fully_shard on every transformer block and the root, reshard_after_forward as it is by default, run by torchrun;
under `full`, checkpoint_wrapper on every block. AdamW is the fused one, and gradients are summed, not averaged. A step's time is
rank 0's, from its data to the loss of all ranks in hand. A rank's memory is the kernel's high-water mark of its resident
set (VmHWM) from the first step on (the mark is reset, and what malloc holds given back, when the model is sharded), printed
as it is and less what was resident after the imports; once with malloc as it comes, over all rounds, and once, in a run
of its own that is not timed, with every tensor of a page or more a mapping of its own, so that malloc keeps nothing that is
free. The largest rank's counts.

Ours: amc compile --dp-size N, amrun --nproc-per-node N. A step's time is what amrun logs. Memory: the arena as promised; the
resident set of the largest rank as amrun prints it, without pages of other ranks' arenas that it maps to read them;
and the kernel's VmHWM, read ten times a second, in which such pages, and loading the model, count.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models"))

PAGE_MAPPINGS = {"MALLOC_MMAP_THRESHOLD_": "4096", "MALLOC_MMAP_MAX_": "1000000"}
IGNORED = -100


def status(field, process="self"):
    """Bytes of a field of a process's /proc/PID/status, 0 of one that has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in pathlib.Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0


def descendants(process):
    """The processes that a process started, and those that they did."""
    children = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in pathlib.Path(f"/proc/{process}/task").iterdir():
            children += (task / "children").read_text().split()
    return children + [pid for child in children for pid in descendants(child)]


def peer(arguments):
    """One rank of PyTorch, under torchrun: writes losses, norms, seconds and memory to a file."""
    import ctypes
    import gc
    import export
    import safetensors
    import torch
    import torch.distributed as dist
    import torch.nn.functional as F
    import transformers.models.llama.modeling_llama  # noqa: F401  loaded lazily; a library, so part of the baseline
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    from torch.distributed.fsdp import fully_shard
    torch.set_num_threads(arguments.threads)
    gc.collect()
    baseline = status("VmRSS")

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    model = export.build(arguments.model).train()
    layers = model.model.layers
    for i, layer in enumerate(layers):
        layers[i] = checkpoint_wrapper(layer) if arguments.ac[0] == "full" else layer
        fully_shard(layers[i])
    fully_shard(model)
    for module in [model, *layers]:  # the loss is divided by the labels of all ranks already; gloo sums, no more
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    dist.barrier()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the high-water mark is now what is resident

    losses, norms, used_norms, seconds = [], [], [], []
    with safetensors.safe_open(arguments.peer, "pt") as data:
        for step in range(arguments.steps):
            begin = time.perf_counter()
            ids, labels = (data.get_slice(name)[step * world + rank] for name in ("input_ids", "labels"))
            targets = labels[:, 1:].reshape(-1)
            counted = (targets != IGNORED).sum()
            dist.all_reduce(counted)
            logits = model(input_ids=ids).logits
            loss = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), targets, ignore_index=IGNORED,
                                   reduction="sum") / counted
            del logits
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            pause = time.perf_counter()
            norm = sum(part.double().square().sum() for p in model.parameters()
                       for part in p.grad.to_local().flatten().split(1 << 20))
            dist.all_reduce(norm)
            begin += time.perf_counter() - pause
            used = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).full_tensor()
            optimizer.step()
            loss = loss.detach()
            dist.all_reduce(loss)
            losses.append(loss.item())
            norms.append(norm.sqrt().item())
            used_norms.append(used.item())
            seconds.append(time.perf_counter() - begin)
    result = {"losses": losses, "norms": norms, "used_norms": used_norms, "seconds": seconds, "baseline": baseline,
              "peak": status("VmHWM")}
    pathlib.Path(f"{arguments.result}.{rank}").write_text(json.dumps(result))
    dist.barrier()
    dist.destroy_process_group()


def processor_seconds():
    """Seconds that all cores worked (or the host took), and those of them that ended processes of this program took."""
    ticks = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"), own.ru_utime + own.ru_stime


def threads_of(world):
    return max(1, len(os.sched_getaffinity(0)) // world)


def run_peer(arguments, folder, world, ac, steps, environment):
    """Losses and seconds of one run of PyTorch, memory of its largest rank."""
    result = folder / "peer.json"
    threads = threads_of(world)
    # torchrun gives each rank a session of its own, by which Linux shares out busy cores; so does mpirun.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world), __file__,
               "--model", arguments.model, "--ac", ac, "--steps", str(steps), "--threads", str(threads), "--peer",
               str(folder / "batches.safetensors"), "--result", str(result)]
    process = subprocess.run(command, capture_output=True, text=True, cwd=folder,
                             env=os.environ | {"OMP_NUM_THREADS": str(threads)} | environment)
    if process.returncode:
        raise SystemExit(f"pytorch failed: {' '.join(command)}\n{process.stderr}")
    ranks = [json.loads(pathlib.Path(f"{result}.{rank}").read_text()) for rank in range(world)]
    largest = max(ranks, key=lambda r: r["peak"])
    return ranks[0] | {"peak": largest["peak"], "grown": max(r["peak"] - r["baseline"] for r in ranks)}


def run_amc(arguments, folder, world, plan):
    """Losses and seconds of one run of AMC, memory of its largest rank."""
    log, notes = folder / "log.jsonl", folder / "notes"
    log.unlink(missing_ok=True)
    command = [str(arguments.bin / "amrun"), str(plan), "--data", str(folder / "batches.safetensors"), "--steps",
               str(arguments.steps), "--threads", str(threads_of(world)), "--log-json", str(log), "--verbose",
               "--nproc-per-node", str(world)]
    peak = 0
    with open(notes, "w") as file:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, cwd=folder)
        while process.poll() is None:  # getrusage would count the pages of this program, which forked
            peak = max([peak] + [status("VmHWM", pid) for pid in descendants(process.pid)])
            time.sleep(0.1)
    text = notes.read_text()
    resident = re.search(r"memory of (\d+) ranks: resident set from .* to (\d+) bytes", text)
    arena = re.search(r"memory: promised peak (\d+) bytes, arena \d+ bytes mapped in whole pages \(\d+ above the promise\), (\d+)",
                      text)
    if process.returncode or not resident or not arena or int(resident[1]) != world:
        raise SystemExit(f"amrun failed: {' '.join(command)}\n{text}")
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    tokens = world * arguments.batch * arguments.sequence
    if len(steps) != arguments.steps or {step["mem"] for step in steps} != {int(arena[1])}:
        raise SystemExit(f"amrun's log says {steps}\n{text}")
    kernels = [line for line in text.splitlines() if line.startswith("time in kernels") or
               (line.startswith("  ") and (" % " in line or " share " in line))]
    return {"losses": [s["loss"] for s in steps], "norms": [s["grad_norm"] for s in steps],
            "seconds": [tokens / s["tps"] for s in steps], "arena": int(arena[1]), "resident": int(resident[2]),
            "peak": peak, "kernels": kernels}


def prepare(arguments, folder):
    import export
    import safetensors.torch
    import torch
    model = export.build(arguments.model)
    print(f"{arguments.model}, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {arguments.batch} x "
          f"{arguments.sequence} tokens a rank, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.2f}, torch "
          f"{torch.__version__}", flush=True)
    with contextlib.redirect_stdout(sys.stderr):
        export.export(model, str(folder / "model.onnx"), weights=True)
    generator = torch.Generator().manual_seed(1)
    shape = (arguments.steps * max(arguments.world), arguments.batch, arguments.sequence)
    ids = torch.randint(0, model.config.vocab_size, shape, generator=generator)
    begins = torch.randint(0, arguments.sequence // 2, shape[:2], generator=generator)
    labels = ids.masked_fill(torch.arange(arguments.sequence) < begins[..., None], IGNORED)
    safetensors.torch.save_file({"input_ids": ids, "labels": labels}, str(folder / "batches.safetensors"))


def compare(arguments, name, ours, theirs):
    """Largest relative differences of losses and of norms; ends the program if one is above the tolerance."""
    worst = {}
    for what in ("losses", "norms"):
        differences = [abs(a - b) / abs(b) for round_ in ours + theirs for a, b in zip(round_[what], theirs[0][what])]
        worst[what] = max(differences)
        if not worst[what] <= arguments.tolerance:
            raise SystemExit(f"{name}: the {what} differ, no time is worth printing: amc {ours[0][what]}, pytorch "
                             f"{theirs[0][what]}")
    return worst


def gib(count):
    return f"{count / 2**30:.3f}"


def bench(arguments, folder, world, ac):
    name = f"{world} ranks of {threads_of(world)} thread{'s' if threads_of(world) > 1 else ''}, ac {ac}"
    plan = folder / f"{ac}.amplan"
    command = [str(arguments.bin / "amc"), "compile", str(folder / "model.onnx"), "--dp-size", str(world), f"--ac={ac}",
               "--shape", f"input_ids={arguments.batch}x{arguments.sequence}", "-o", str(plan)]
    process = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if process.returncode:
        raise SystemExit(f"amc failed: {' '.join(command)}\n{process.stderr}")

    mapped = run_peer(arguments, folder, world, ac, min(2, arguments.steps), PAGE_MAPPINGS)
    ours, theirs = [], []
    begin, (worked, own) = time.perf_counter(), processor_seconds()
    for _ in range(arguments.rounds):
        theirs.append(run_peer(arguments, folder, world, ac, arguments.steps, {}))
        ours.append(run_amc(arguments, folder, world, plan))
    elapsed, (worked_now, own_now) = time.perf_counter() - begin, processor_seconds()
    others = (worked_now - worked - (own_now - own)) / (elapsed * os.cpu_count())
    worst = compare(arguments, name, ours, theirs)
    compare(arguments, name + ", tensors mapped", [], [theirs[0], mapped])

    def seconds(rounds):
        every = [s for r in rounds for s in r["seconds"][1:]]
        return statistics.median(every), f"{statistics.median(every):7.3f} s a step ({min(every):.3f} to {max(every):.3f})"

    def most(rounds, what):
        return max(r[what] for r in rounds)

    mine, my_time = seconds(ours)
    other, other_time = seconds(theirs)
    resident, lean, grown = most(ours, "resident"), mapped["peak"], most(theirs, "grown")
    print(f"{name}; {arguments.rounds} rounds of {arguments.steps} steps, the first step of each not counted; {others:.0%} of "
          "the machine's time went to others")
    rounded = max(abs(a / b - 1) for r in theirs for a, b in zip(r["used_norms"], r["norms"]))
    print(f"  checked        losses agree to {worst['losses']:.1e}, gradient norms to {worst['norms']:.1e} (those that pytorch "
          f"clips by are off by {rounded:.1e})")
    print(f"  amc            {my_time}; GiB a rank: arena {gib(most(ours, 'arena'))}, resident {gib(resident)}, VmHWM with "
          f"pages of other ranks {gib(most(ours, 'peak'))}")
    print(f"  pytorch fsdp2  {other_time}; GiB a rank: VmHWM {gib(most(theirs, 'peak'))}, above imports {gib(grown)}; tensors "
          f"mapped {gib(lean)}, above imports {gib(mapped['grown'])}")
    print(f"  ratio          {mine / other:7.3f} of its time; amc's resident set is {resident / most(theirs, 'peak'):.3f} of its "
          f"VmHWM, {resident / grown:.3f} of what it has above imports; tensors mapped {resident / lean:.3f}, "
          f"{resident / mapped['grown']:.3f}")
    print("  where amc's time goes, rank 0, one round:")
    for line in ours[-1]["kernels"][:9]:
        print("   ", line)
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama-100m", help="a Llama of models/export.py")
    parser.add_argument("--world", nargs="+", type=int, default=[2, 4], help="numbers of ranks")
    parser.add_argument("--ac", nargs="+", default=["none", "full"], choices=["none", "full"])
    parser.add_argument("--batch", type=int, default=2, help="rows a rank")
    parser.add_argument("--sequence", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4, help="a round; the first is not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative, of losses and gradient norms")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/bin")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--result", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        peer(arguments)
        return
    if arguments.steps < 2:
        parser.error("--steps should be at least 2: the first is not counted")
    with tempfile.TemporaryDirectory(prefix="fsdp-gloo-") as folder:
        prepare(arguments, pathlib.Path(folder))
        for world in arguments.world:
            for ac in arguments.ac:
                bench(arguments, pathlib.Path(folder), world, ac)


if __name__ == "__main__":
    main()
