"""decisions.py TOOLS WORK FIXTURE...: no decision about memory changes a bit.

For each fixture, in groups that compute by one formula (the model's loss unfused; linear cross-entropy; without clipping,
so that updates may stand in backward): the first batch's loss and gradients, ten losses and gradient norms, and the
weights after ten steps, of every decision of the group against those of its first. Each run also has to take the bytes
that its plan promises. Prints a line a plan; exits 1 if any differs. With --perturb every plan but the first of a group has
twice the learning rate, and success is that all of them then differ.
"""
import argparse
import json
import os
import sys

from budgets import Fixture, smallest

LINEAR = ["--loss-impl=linear-cross-entropy"]
FREE = ["--max-grad-norm=0"]
# Of each group the flags that all have, then each decision's; BUDGET:n is n eighths of the way from the smallest arena.
GROUPS = {
    "unfused": ([], [
        ["--ac=none"], ["--ac=selective"], ["--ac=selective", "--ac-matmuls=all"], ["--ac=full"],
        ["--ac=full", "--ac-kv-sharing=block"], ["--ac=selective", "--ac-policy=attention=recompute"], ["--tile-mlp=on"],
        ["--ac=full", "--tile-mlp=on"], ["BUDGET:0"], ["BUDGET:3"], ["BUDGET:6"], ["--ac=auto"]]),
    "linear": (LINEAR, [
        ["--ac=none"], ["--loss-tiles-in-flight=1"], ["--loss-tiles-in-flight=3", "--ac=full", "--tile-mlp=on"],
        ["--loss-tiles-in-flight=256", "--ac=selective"], ["BUDGET:0"], ["BUDGET:4"]]),
    "in backward": (FREE, [
        ["--ac=none", "--optimizer-in-backward=off"], ["--ac=none", "--optimizer-in-backward=on"],
        ["--ac=full", "--optimizer-in-backward=on", "--tile-mlp=on"], ["BUDGET:0", "--optimizer-in-backward=on"]]),
}


def flags_of(fixture, plan, common, decision, ranges):
    """The decision's flags, with bytes where it names a budget; `ranges` remembers smallest arenas."""
    flags = []
    for word in decision:
        if not word.startswith("BUDGET:"):
            flags.append(word)
            continue
        others = common + [w for w in decision if w != word]
        if tuple(others) not in ranges:
            fixture.compile(plan, others)
            ranges[tuple(others)] = smallest(fixture, plan, others), fixture.inspect(plan)["peak_bytes"]
        least, most = ranges[tuple(others)]
        flags += ["--ac=budget", f"--memory-budget={least + (most - least) * int(word[7:]) // 8}"]
    return common + flags


def check(fixture, perturb):
    plan, wrong, ranges = os.path.join(fixture.work, "plan"), 0, {}
    for name, (common, decisions) in GROUPS.items():
        reference = None
        if os.environ.get("AMC_TEST_TARGET", "cpu") != "cpu":  # where networks are not tiled, and memory is not this machine's
            decisions = [[word for word in decision if word != "--tile-mlp=on"] +
                         ["--device-memory=2GiB"] * ("--ac=auto" in decision) for decision in decisions]
        for decision in decisions:
            flags = flags_of(fixture, plan, common, decision, ranges)
            if perturb and reference:
                flags.append(f"--lr={2 * fixture.optimizer.get('lr', 1e-3)}")
            fixture.compile(plan, flags)
            peak = fixture.inspect(plan)["peak_bytes"]
            result, memory = fixture.train(plan)
            problems = []
            if memory != {peak}:
                problems.append(f"amrun took {sorted(memory)} bytes")
            if reference is None:
                reference = result
            elif (result == reference) == perturb:
                parts = [part for part, a, b in zip(("gradients", "weights", "losses"), result, reference) if a != b]
                problems.append(f"differs in {', '.join(parts) or 'nothing'}")
            print(f"{fixture.name:14} {name:12} {' '.join(decision):62} {peak:10} bytes  {'; '.join(problems) or 'ok'}",
                  flush=True)
            wrong += bool(problems)
    return wrong == 0


def open_fixture(tools, work, folder):
    """With its own batch and sequence, where the model leaves them open."""
    with open(os.path.join(folder, "meta.json")) as file:
        meta = json.load(file)
    return Fixture(tools, work, folder,
                   flags=["--shape", f"input_ids={meta['batch']}x{meta['sequence']}"] if meta["dynamic"] else [])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools")
    parser.add_argument("work")
    parser.add_argument("fixtures", nargs="+")
    parser.add_argument("--perturb", action="store_true")
    options = parser.parse_args()
    results = [check(open_fixture(options.tools, options.work, folder), options.perturb) for folder in options.fixtures]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
