"""rank_checkpoints.py TOOLS WORK FIXTURE…: a checkpoint of any mesh goes on on any other.

Every mesh trains three steps with a checkpoint after the second; then each mesh goes on from that checkpoint for the third.
On the same mesh the third step's loss and the weights are the same bits as without the break; on another the loss is within
1e-6 of it and the weights as in ranks.py. All meshes take four entries of the data a step. Prints a line a pair, exits 1 if
any fails. --perturb: the learning rate is another one after the break, and success is that every pair fails.
"""
import argparse
import json
import os
import shutil
import sys

from budgets import run
from ranks import tensors

MESHES = {  # flags, ranks
    "one rank": (["--grad-accumulation=4"], 1),
    "fsdp2-4": (["--dp-size=4"], 4),
    "hsdp-2x2": (["--dp-size=4", "--dp-replicate-size=2"], 4),
    "ddp-2": (["--strategy=ddp", "--dp-size=2", "--grad-accumulation=2"], 2),
    "fsdp2-2-tp-2-sp": (["--dp-size=2", "--tp-size=2", "--sequence-parallel", "--grad-accumulation=2"], 4),
    "fsdp2-2-cp-2": (["--dp-size=2", "--cp-size=2", "--grad-accumulation=2"], 4),
}
EXPERT_MESHES = {  # of a mixture, instead of those
    "one rank": MESHES["one rank"],
    "fsdp2-4": MESHES["fsdp2-4"],
    "ep-2-shard-2": (["--dp-size=4", "--ep-size=2"], 4),
    "ep-4-with-tp-2": (["--dp-size=2", "--tp-size=2", "--ep-size=4", "--grad-accumulation=2"], 4),
}


class Runner:
    def __init__(self, tools, work, folder):
        self.name = os.path.basename(folder.rstrip("/"))
        self.tools, self.folder, self.work = tools, folder, os.path.join(work, self.name)
        with open(os.path.join(folder, "meta.json")) as file:
            self.meshes = EXPERT_MESHES if "Mixtral" in json.load(file)["model"] else MESHES
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)
        for mesh, (flags, _) in self.meshes.items():
            run([os.path.join(tools, "amc"), "compile", os.path.join(folder, "model.onnx"), "-o", self.plan(mesh)] + flags)

    def plan(self, mesh):
        return os.path.join(self.work, mesh.replace(" ", "-") + ".amplan")

    def train(self, mesh, folder, flags):
        """The last step's loss, and the weights: bytes and numbers."""
        ranks, weights, log = self.meshes[mesh][1], os.path.join(self.work, "weights"), os.path.join(self.work, "log")
        if os.path.exists(log):
            os.remove(log)
        run([os.path.join(self.tools, "amrun"), self.plan(mesh), "--data", os.path.join(self.folder, "batches.safetensors"),
             "--checkpoint-dir", folder, "--steps", "3", "--save-weights", weights, "--log-json", log] + flags +
            (["--nproc-per-node", str(ranks)] if ranks > 1 else []))
        with open(log) as file:
            step = [json.loads(line) for line in file][-1]
        if step["step"] != 3:
            sys.exit(f"{mesh}: the last step is {step['step']}, should be 3")
        with open(weights, "rb") as file:
            return step["loss"], file.read(), tensors(weights)


def check(runner, perturb):
    """How many pairs do not do what they should."""
    wrong = 0
    for writer in runner.meshes:
        written = os.path.join(runner.work, "written")
        shutil.rmtree(written, ignore_errors=True)
        expected = runner.train(writer, written, ["--checkpoint-every", "2"])
        for reader in runner.meshes:
            folder = os.path.join(runner.work, "resumed")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(written, folder, symlinks=True)
            shutil.rmtree(os.path.join(folder, "epoch_0_step_3"), ignore_errors=True)
            shutil.rmtree(os.path.join(folder, "epoch_1_step_3"), ignore_errors=True)
            latest = os.path.join(folder, "LATEST")
            os.remove(latest)
            os.symlink("epoch_0_step_2", latest)
            got = runner.train(reader, folder, ["--resume"] + (["--lr", "0.5"] if perturb else []))
            problems = []
            if not abs(got[0] - expected[0]) <= 1e-6 * abs(expected[0]):
                problems.append(f"the loss of step 3 is {got[0]}, was {expected[0]}")
            if reader == writer and (got[0] != expected[0] or got[1] != expected[1]):
                problems.append("the bits are not those without the break")
            for name, weight in expected[2].items():
                off = max((abs(a - b) for a, b in zip(got[2][name], weight)), default=0)
                if not off <= 1e-5:
                    problems.append(f"weight {name} is off by {off:.3g}")
                    break
            print(f"{runner.name:8} {writer:16} -> {reader:16} loss {got[0]:.9g}  {'; '.join(problems) or 'ok'}", flush=True)
            wrong += bool(problems) != perturb
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools")
    parser.add_argument("work")
    parser.add_argument("fixtures", nargs="+")
    parser.add_argument("--perturb", action="store_true")
    options = parser.parse_args()
    wrong = sum(check(Runner(options.tools, options.work, folder), options.perturb) for folder in options.fixtures)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
