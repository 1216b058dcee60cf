"""ranks.py TOOLS WORK FIXTURE...: a run of several ranks is the run of one.

For each fixture and mesh, every rank a process under mpirun: ten losses and gradient norms, and the weights after ten
steps, against one rank that accumulates what the data-parallel ranks share, on the same data. Losses agree within 1e-6,
norms within 1e-4, weights within a hundredth of the distance that each has gone, as in parity. Within one mesh every
checkpointing policy gives the same bits, whatever of its communication runs beside computation; linear cross-entropy,
another formula, is compared with one rank alone. Each run
takes the bytes that its plan promises on every rank (amrun itself compares the collectives it ran with the plan's).

Prints a line a run, exits 1 if any differs. --perturb: every run of several ranks has twice the learning rate, and success
is that all of them then differ. --meshes NAME,…: only those. AMC_TEST_TARGET in the environment: the target of all plans, the CPU
by default.
"""
import argparse
import json
import os
import struct
import sys

from budgets import run

MESHES = {  # flags, data-parallel ranks, ranks
    "fsdp2-2": (["--dp-size=2"], 2, 2),
    "fsdp2-4": (["--dp-size=4"], 4, 4),
    "fsdp2-8": (["--dp-size=8"], 8, 8),
    "never-reshard-2": (["--dp-size=2", "--reshard-after-forward=never"], 2, 2),
    "hsdp-2x2": (["--dp-size=4", "--dp-replicate-size=2"], 4, 4),
    "ddp-2": (["--strategy=ddp", "--dp-size=2"], 2, 2),
    "ddp-4": (["--strategy=ddp", "--dp-size=4"], 4, 4),
    "megatron-4": (["--strategy=megatron_fsdp", "--dp-size=4"], 4, 4),
    "megatron-zero0-4": (["--strategy=megatron_fsdp", "--zero-dp-strategy=0", "--dp-size=4"], 4, 4),
    "megatron-zero1-4": (["--strategy=megatron_fsdp", "--zero-dp-strategy=1", "--dp-size=4"], 4, 4),
    "megatron-zero2-4": (["--strategy=megatron_fsdp", "--zero-dp-strategy=2", "--dp-size=4"], 4, 4),
    "tp-2": (["--tp-size=2"], 1, 2),
    "tp-4": (["--tp-size=4"], 1, 4),
    "tp-2-sp": (["--tp-size=2", "--sequence-parallel"], 1, 2),
    "fsdp2-2-tp-2": (["--dp-size=2", "--tp-size=2"], 2, 4),
    "cp-4-gather": (["--cp-size=4", "--cp-attention=all-gather"], 1, 4),
    "cp-2-ring": (["--cp-size=2", "--cp-attention=ring"], 1, 2),
    "cp-4-ring": (["--cp-size=4", "--cp-attention=ring"], 1, 4),
    "fsdp2-2-cp-2": (["--dp-size=2", "--cp-size=2", "--cp-attention=all-gather"], 2, 4),
    "cp-2-tp-2-sp": (["--cp-size=2", "--cp-attention=ring", "--tp-size=2", "--sequence-parallel"], 1, 4),
    "hsdp-2x2-tp-2-sp": (["--dp-size=4", "--dp-replicate-size=2", "--tp-size=2", "--sequence-parallel"], 4, 8),
}
# Where there are experts.
EXPERT_MESHES = {
    "ep-2": (["--dp-size=2", "--ep-size=2"], 2, 2),
    "ep-4": (["--dp-size=4", "--ep-size=4"], 4, 4),
    "ep-2-shard-2": (["--dp-size=4", "--ep-size=2"], 4, 4),
    "ep-2-hsdp-2x2": (["--dp-size=4", "--dp-replicate-size=2", "--ep-size=2"], 4, 4),
    "ep-2-cp-2": (["--cp-size=2", "--ep-size=2"], 1, 2),
    "ep-2-tp-2": (["--dp-size=2", "--tp-size=2", "--ep-size=2"], 2, 4),
    "ep-4-with-tp-2": (["--dp-size=2", "--tp-size=2", "--ep-size=4"], 2, 4),
    "ep-4-with-tp-2-sp": (["--dp-size=2", "--tp-size=2", "--ep-size=4", "--sequence-parallel"], 2, 4),
}
LINEAR = ["--loss-impl=linear-cross-entropy"]
STEPS = 10


def tensors(path):
    """Names to lists of floats."""
    with open(path, "rb") as file:
        data = file.read()
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    found = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        found[name] = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
    return found


class Fixture:
    def __init__(self, tools, work, folder):
        self.tools, self.folder, self.name = tools, folder, os.path.basename(folder.rstrip("/"))
        self.work = os.path.join(work, self.name)
        os.makedirs(self.work, exist_ok=True)
        with open(os.path.join(folder, "meta.json")) as file:
            meta = json.load(file)
        self.shape = ["--shape", f"input_ids={meta['batch']}x{meta['sequence']}"] if meta["dynamic"] else []
        if target := os.environ.get("AMC_TEST_TARGET"):
            self.shape.append(f"--target={target}")
        self.meshes = MESHES | (EXPERT_MESHES if any(word in meta["model"] for word in ("Mixtral", "Moe")) else {})
        self.rate = meta["optimizer"].get("lr", 1e-3)
        self.start = None  # initial weights

    def train(self, flags, ranks):
        """Losses and norms, weights as bytes, and what amrun and the plan say of memory."""
        plan, weights, log = (os.path.join(self.work, name) for name in ("plan", "weights", "log"))
        run([os.path.join(self.tools, "amc"), "compile", os.path.join(self.folder, "model.onnx"), "-o", plan] + self.shape + flags)
        peak = json.loads(run([os.path.join(self.tools, "amc"), "inspect", "--json", plan]).stdout)["peak_bytes"]
        if os.path.exists(log):
            os.remove(log)
        run([os.path.join(self.tools, "amrun"), plan, "--data", os.path.join(self.folder, "batches.safetensors"), "--steps",
             str(STEPS), "--save-weights", weights, "--log-json", log] + (["--nproc-per-node", str(ranks)] if ranks > 1 else []))
        with open(log) as file:
            steps = [json.loads(line) for line in file]
        with open(weights, "rb") as file:
            bits = file.read()
        problems = [] if {step["mem"] for step in steps} == {peak} else [f"amrun took {steps[0]['mem']} bytes of {peak}"]
        return [(step["loss"], step["grad_norm"]) for step in steps], bits, tensors(weights), problems

    def initial(self):
        if self.start is None:
            plan, weights = (os.path.join(self.work, name) for name in ("plan", "initial"))
            run([os.path.join(self.tools, "amc"), "compile", os.path.join(self.folder, "model.onnx"), "-o", plan] + self.shape)
            run([os.path.join(self.tools, "amrun"), plan, "--data", os.path.join(self.folder, "batches.safetensors"), "--steps",
                 "0", "--save-weights", weights])
            self.start = tensors(weights)
        return self.start


def compare(got, expected, initial):
    problems = []
    for step, ((loss, norm), (loss0, norm0)) in enumerate(zip(got[0], expected[0]), 1):
        if not abs(loss - loss0) <= 1e-6 * abs(loss0):
            problems.append(f"loss {step}: {loss} is not {loss0}")
        if not abs(norm - norm0) <= 1e-4 * abs(norm0):
            problems.append(f"norm {step}: {norm} is not {norm0}")
    if got[2].keys() != expected[2].keys():
        problems.append("other weights are saved")
    for name in sorted(expected[2].keys() & got[2].keys()):
        weight, start = expected[2][name], initial[name]
        gone = sum((a - b) ** 2 for a, b in zip(weight, start)) ** 0.5
        off = sum((a - b) ** 2 for a, b in zip(got[2][name], weight)) ** 0.5
        if not off <= 1e-2 * gone + 1e-9:
            problems.append(f"weight {name} is off by {off:.3g}, has gone {gone:.3g}")
    return problems[:3] + ([f"and {len(problems) - 3} more"] if len(problems) > 3 else [])


def check(fixture, meshes, perturb):
    wrong, alone = 0, {}
    for mesh in meshes or fixture.meshes:
        flags, data, ranks = fixture.meshes[mesh]
        policies = ([["--ac=none", "--overlap=off"], ["--ac=full", "--overlap=prefetch"]] +
                    ([["--ac=selective"]] if "--strategy" not in flags[0] else [["--ac=full"]]))
        bits = None
        for policy in policies + [LINEAR + ["--ac=full"]]:
            formula = tuple(word for word in policy if word in LINEAR)
            if (data, formula) not in alone:
                alone[data, formula] = fixture.train([f"--grad-accumulation={data}", *formula], 1)
            got = fixture.train(flags + policy + ([f"--lr={2 * fixture.rate}"] if perturb else []), ranks)
            different = compare(got, alone[data, formula], fixture.initial())
            problems = got[3] + (["is the run of one rank"] if perturb and not different else [] if perturb else different)
            if not formula:
                if bits is not None and got[1] != bits:
                    problems.append("the bits are not those of --ac=none --overlap=off")
                bits = bits or got[1]
            print(f"{fixture.name:8} {mesh:17} {' '.join(policy):44} loss {got[0][-1][0]:.9g}  {'; '.join(problems) or 'ok'}", flush=True)
            wrong += bool(problems)
    return wrong == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools")
    parser.add_argument("work")
    parser.add_argument("fixtures", nargs="+")
    parser.add_argument("--meshes")
    parser.add_argument("--perturb", action="store_true")
    options = parser.parse_args()
    results = [check(Fixture(options.tools, options.work, folder), options.meshes.split(",") if options.meshes else [], options.perturb)
               for folder in options.fixtures]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
