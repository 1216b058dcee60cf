"""budgets.py TOOLS WORK FIXTURE...: memory budgets between the smallest arena found and keeping everything.

For each fixture and each of N budgets (default 12; --budgets): the arena, what amrun says it took, and the budget; the
modelled time of a step, which must not rise with the budget; and the first batch's loss and gradients and the weights
after ten steps, which must be those of --ac=none to the bit, whichever variant of the step was chosen. Prints one line a
plan, exits 1 if any of it fails. With --perturb every plan but the reference is compiled with twice the learning rate,
and success is that the weights then differ.

--shape and --text train on a text in a shape of one's own; what stands behind -- is for amc compile, the reference's, too.
AMC_TEST_TARGET in the environment: the target of all plans, the CPU by default. --variants N: at least so many variants are chosen over the budgets, most of which are then near the smallest arena.
"""
import argparse
import json
import os
import re
import subprocess
import sys


def run(command, expect=0):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != expect:
        sys.exit(f"{' '.join(command)} exited with {result.returncode}, should be {expect}:\n{result.stderr[-2000:]}")
    return result


class Fixture:
    def __init__(self, tools, work, folder, text=None, flags=()):
        self.tools, self.folder, self.flags = tools, folder, list(flags)
        if target := os.environ.get("AMC_TEST_TARGET"):
            self.flags.append(f"--target={target}")
        self.data = text or os.path.join(folder, "batches.safetensors")
        self.name = os.path.basename(folder.rstrip("/"))
        self.work = os.path.join(work, self.name)
        os.makedirs(self.work, exist_ok=True)
        with open(os.path.join(folder, "meta.json")) as file:
            self.optimizer = json.load(file)["optimizer"]

    def compile(self, plan, options, expect=0):
        command = [os.path.join(self.tools, "amc"), "compile", os.path.join(self.folder, "model.onnx"), "-o", plan]
        return run(command + self.flags + options, expect)

    def train(self, plan):
        """What a run leaves, as bytes, and the memory that amrun states."""
        data = ["--data", self.data]
        amrun = os.path.join(self.tools, "amrun")
        gradients, weights, log = (os.path.join(self.work, name) for name in ("g", "w", "log"))
        run([amrun, plan] + data + ["--dump-gradients", gradients])
        if os.path.exists(log):
            os.remove(log)
        run([amrun, plan] + data + ["--steps", "10", "--save-weights", weights, "--log-json", log])
        with open(log) as file:
            steps = [json.loads(line) for line in file]
        losses = json.dumps([(step["loss"], step["grad_norm"]) for step in steps])
        with open(gradients, "rb") as g, open(weights, "rb") as w:
            return (g.read(), w.read(), losses), {step["mem"] for step in steps}

    def inspect(self, plan):
        return json.loads(run([os.path.join(self.tools, "amc"), "inspect", "--json", plan]).stdout)


def smallest(fixture, plan, flags=()):
    """The smallest arena found, which the refusal of an impossible budget states."""
    text = fixture.compile(plan, ["--ac=budget", "--memory-budget=1", *flags], expect=1).stderr
    found = re.search(r"should be at least (\d+)", text)
    bound = re.search(r"needs less than (\d+) bytes", text)
    if not found or not bound or int(bound[1]) > int(found[1]):
        sys.exit(f"{fixture.name}: an impossible budget is refused with\n{text}")
    return int(found[1])


def taken(text):
    """The variant that compile's messages say was taken."""
    found = re.search(r"remark: (.*): of \d+ variants of this step", text)
    return found[1] if found else "the only variant"


def check(fixture, budgets, perturb, variants):
    plan = os.path.join(fixture.work, "plan")
    fixture.compile(plan, ["--ac=none"])
    none = fixture.inspect(plan)["peak_bytes"]
    reference, _ = fixture.train(plan)
    least = smallest(fixture, plan)
    fixture.compile(plan, ["--ac=full"])
    if fixture.inspect(plan)["peak_bytes"] < least:
        print(f"{fixture.name}: --ac=full needs {fixture.inspect(plan)['peak_bytes']} bytes, the smallest arena found is {least}")
        return False
    fixture.compile(plan, ["--ac=budget", f"--memory-budget={least - 1}"], expect=1)  # named as the least, it has to be
    changed = [f"--lr={2 * fixture.optimizer.get('lr', 1e-3)}"] if perturb else []
    last, bad, differ, chosen = None, 0, 0, set()
    for i in range(budgets):
        # Where variants are counted, more of the budgets are tight.
        share = (i / (budgets - 1)) ** (2 if variants > 1 else 1)
        budget = least + int((none - least) * share)
        said = fixture.compile(plan, ["--ac=budget", f"--memory-budget={budget}"] + changed).stderr
        chosen.add(taken(said))
        facts = fixture.inspect(plan)
        result, memory = fixture.train(plan)
        cost, bound = (float(facts["notes"][name]) for name in ("recompute_seconds", "recompute_bound_seconds"))
        time = cost + float(facts["notes"]["step_seconds"])
        gap = 0 if cost == 0 else 100 * (cost - bound) / cost
        wrong = []
        if facts["peak_bytes"] > budget:
            wrong.append("the arena is above the budget")
        if memory != {facts["peak_bytes"]}:
            wrong.append(f"amrun took {sorted(memory)} bytes")
        if last is not None and not time <= last:
            wrong.append("a larger budget takes more time")
        if not bound <= cost:
            wrong.append("the bound is above the cost")
        if i == budgets - 1 and cost != 0:
            wrong.append("what keeps everything recomputes")
        if result != reference:
            differ += 1
            if not perturb:
                wrong.append("the bits are not those of --ac=none")
        print(f"{fixture.name:10} budget {budget:10} arena {facts['peak_bytes']:10} "
              f"{facts['flops']['recompute'] / 1e6:10.3f} MFLOP {cost:.6e} s bound {bound:.6e} s gap {gap:5.1f}%  "
              f"step {time:.6e} s, {taken(said)}  {'; '.join(wrong) or 'ok'}", flush=True)
        last, bad = time, bad + bool(wrong)
    if len(chosen) < variants:
        print(f"{fixture.name}: {len(chosen)} variants were chosen, should be {variants} or more")
        return False
    return bad == 0 and (not perturb or differ == budgets)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools")
    parser.add_argument("work")
    parser.add_argument("fixtures", nargs="+")
    parser.add_argument("--budgets", type=int, default=12)
    parser.add_argument("--perturb", action="store_true")
    parser.add_argument("--shape")
    parser.add_argument("--text")
    parser.add_argument("--variants", type=int, default=1)
    ours, flags = sys.argv[1:], []
    if "--" in ours:
        ours, flags = ours[:ours.index("--")], ours[ours.index("--") + 1:]
    options = parser.parse_args(ours)
    flags += ["--shape", options.shape] if options.shape else []
    results = [check(Fixture(options.tools, options.work, folder, options.text, flags), options.budgets,
                     options.perturb, options.variants) for folder in options.fixtures]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
