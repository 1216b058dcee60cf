#!/usr/bin/env python3
"""The budget planner against a MILP solver (COIN-OR's cbc, Debian package coinor-cbc) that shares no code with it.

  test/oracle/solve.py build/bin/amc-oracle-problems 8 random 1 200
  test/oracle/solve.py --seconds 300 --show build/bin/amc-oracle-problems 4 model test/fixtures/llama/model.onnx

The program's output, a problem a line: a training step's operations in the order of the planner's plan, a budget in
bytes, and that plan.
The solver may run any forward operation again before any backward operation that reads forward values, as
often as it likes, keep and drop every value at any time, and take over dying buffers where an operation allows it; what
is alive at every operation must fit the budget; the cost of what runs again is minimised (Checkmate's problem, Jain et
al., 2020, with lifetimes within a stage and in-place results). Buffers count as they lie in an arena, rounded up to its
alignment, but the solver knows no packing: the planner has to place them as well. The planner's plan is first replayed by this file's own count of live bytes, which must
be the planner's.

Prints a line a problem: the budget in bytes, then costs in per mille of a step: the planner's, the solver's, what the
solver proved, the lower bound that the planner prints; then the distribution of gaps. Exits 1 if a plan's bytes are not
what it says, if a bound that the planner prints is above a solution, if the gaps between the planner's cost and the
solver's exceed --median or --worst, or if more than --unproven of the problems could not be solved to the end.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time


class Problem:
    def __init__(self, text):
        data = json.loads(text)
        self.name, self.budget, self.plan = data["name"], data["budget"], data["plan"]
        self.alignment = data["alignment"]
        self.ops, self.values = data["ops"], data["values"]
        self.bytes = [self.aligned(v["bytes"], data["alignment"]) for v in self.values]
        self.workspace = [self.aligned(op["workspace"], data["alignment"]) for op in self.ops]
        self.producer = {r: i for i, op in enumerate(self.ops) for r in op["results"]}
        for op in self.ops:
            op["reads"] = sorted({self.root(v) for v in op["operands"]})
            # Operands whose buffer a result may have: read through reusable positions only, no sources.
            elsewhere = {self.root(v) for at, v in enumerate(op["operands"]) if at not in op["reusable"]}
            op["gives"] = [r for r in op["reads"] if r not in elsewhere and not self.values[r]["source"]]
            op["compute"] = op["kind"] == "compute"
            op["forward"] = op["phase"] == "forward"
        self.end = next((i for i, op in enumerate(self.ops) if op["kind"] == "micro_batch_end"), len(self.ops))
        self.persistent = sum(self.bytes[i] for i, v in enumerate(self.values) if v["source"] and v["persistent"])
        self.kept_to_end = set()  # roots that leave the step: alive to the end of their section
        for op in self.ops:
            if op["kind"] == "output":
                self.kept_to_end |= set(op["reads"])

    @staticmethod
    def aligned(size, alignment):
        return -(-size // alignment) * alignment

    def root(self, value):
        return self.values[value]["root"]

    def activation(self, root):
        """Made by forward, or an input: what the solver decides about."""
        value = self.values[root]
        if value["source"]:
            return not value["persistent"]
        return self.ops[self.producer[root]]["forward"]

    def taken_over(self, op, dies):
        """Bytes of results that take the place of operands: of each size as many as die."""
        free = {}
        for root in op["gives"]:
            size = self.values[root]["bytes"]
            if dies(root):
                free[size] = free.get(size, 0) + 1
        total = 0
        for result in op["results"]:
            size = self.values[result]["bytes"]
            if free.get(size, 0) > 0:
                free[size] -= 1
                total += size
        return total

    def replay(self, sequence):
        """Largest live sum, in bytes that are not rounded, of a sequence in which forward operations may come again."""
        persistent = sum(v["bytes"] for v in self.values if v["source"] and v["persistent"])
        current, last, births = {}, {}, []  # of roots: the instance there is; of instances: the last reader
        time = sections = 0
        steps = []
        for index in sequence:
            op = self.ops[index]
            if op["kind"] == "micro_batch_end":
                sections = time
            if op["kind"] == "source":
                for r in op["results"]:
                    current[r] = (r, -1)
                    last[(r, -1)] = 0
            if op["kind"] == "output":
                for r in op["reads"]:
                    births.append((current[r], time))
            if not op["compute"]:
                continue
            for r in op["reads"]:
                last[current[r]] = time
            read = {r: current[r] for r in op["reads"]}
            for r in op["results"]:
                current[r] = (r, time)
                last[(r, time)] = time
            steps.append((op, read))
            time += 1
        sections = sections or time
        for instance, at in births:
            last[instance] = max(last[instance], (sections if at <= sections and instance[1] < sections else time) - 1)
        change = [0] * (time + 1)
        for (root, born), end in last.items():
            value = self.values[root]
            if value["source"] and value["persistent"]:
                continue
            change[max(born, 0)] += value["bytes"]
            change[end + 1] -= value["bytes"]
        live = most = 0
        for t, (op, read) in enumerate(steps):
            live += change[t]
            reused = self.taken_over(op, lambda r: last[read[r]] == t)
            most = max(most, persistent + live + op["workspace"] - reused)
        return most


class Program:
    """A minimisation over variables that are 0 or 1. A literal is (coefficient, variable, constant): v or 1 - v."""

    def __init__(self):
        self.count, self.rows, self.objective = 0, [], {}

    def variable(self):
        self.count += 1
        return (1, self.count - 1, 0)

    @staticmethod
    def negated(literal):
        coefficient, variable, constant = literal
        return (-coefficient, variable, 1 - constant)

    def at_most(self, terms, limit, condition=None):
        """The sum of weight * literal is at most `limit`, if `condition` holds."""
        row = {}
        for weight, (coefficient, variable, constant) in terms:
            limit -= weight * constant
            if variable is not None:
                row[variable] = row.get(variable, 0) + weight * coefficient
        slack = sum(max(c, 0) for c in row.values()) - limit
        if slack <= 0:
            return
        if condition is not None:
            coefficient, variable, constant = condition
            row[variable] = row.get(variable, 0) + slack * coefficient
            limit += slack * (1 - constant)
        self.rows.append((row, limit))

    def implies(self, a, b):
        self.at_most([(1, a), (-1, b)], 0)

    def any_of(self, literals):
        self.at_most([(-1, l) for l in literals], -1)

    def write(self, path):
        """MPS in its fixed columns, the one form that cbc always reads."""
        columns = [[] for _ in range(self.count)]
        for r, (row, _) in enumerate(self.rows):
            for variable, coefficient in row.items():
                if coefficient:
                    columns[variable].append((f"r{r}", coefficient))

        def line(first, second, third, kind=""):
            return f" {kind:<2} {first:<8}  {second:<8}  {third}\n"

        with open(path, "w") as out:
            out.write("NAME          oracle\nROWS\n N  cost\n")
            out.writelines(f" L  r{r}\n" for r in range(len(self.rows)))
            out.write("COLUMNS\n" + line("MARKER", "'MARKER'", "'INTORG'"))
            for v, column in enumerate(columns):
                out.writelines(line(f"x{v}", *entry) for entry in [("cost", self.objective.get(v, 0))] + column)
            out.write(line("MARKER", "'MARKER'", "'INTEND'") + "RHS\n")
            out.writelines(line("RHS", f"r{r}", limit) for r, (_, limit) in enumerate(self.rows))
            out.write("BOUNDS\n")
            out.writelines(line("BOUND", f"x{v}", 1, "UP") for v in range(self.count))
            out.write("ENDATA\n")

    def solve(self, seconds, threads):
        """(values, cost, proven bound); values is None if nothing was found in that time."""
        with tempfile.TemporaryDirectory() as folder:
            problem, solution = os.path.join(folder, "problem.mps"), os.path.join(folder, "solution")
            self.write(problem)
            text = subprocess.run(["cbc", problem, "sec", str(seconds), "timeMode", "elapsed", "threads", str(threads),
                                   "ratioGap", "0", "solve", "solution", solution], check=True, capture_output=True,
                                  text=True).stdout
            if "errors on input" in text or not os.path.exists(solution):
                sys.exit(f"cbc cannot read what this program wrote:\n{text}")
            lines = open(solution).read().splitlines()
        proven = re.search(r"Lower bound:\s+(\S+)", text)
        values = [0] * self.count
        for line in lines[1:]:
            fields = line.split()
            if len(fields) >= 3 and fields[1].startswith("x"):
                values[int(fields[1][1:])] = round(float(fields[2]))
        cost = sum(c * values[v] for v, c in self.objective.items())
        if lines[0].startswith("Optimal"):
            return values, cost, cost
        bound = max(0, int(-(-(float(proven[1]) - 1e-6) // 1))) if proven else 0
        if "nfeasible" in lines[0] or "objective value" not in lines[0] or not self.holds(values):
            return None, None, bound
        return values, cost, bound

    def holds(self, values):
        return all(sum(c * values[v] for v, c in row.items()) <= limit for row, limit in self.rows)


TRUE = (0, None, 1)


class Solver:
    def __init__(self, problem, every_slot):
        self.p, self.m = problem, Program()
        self.every_slot = every_slot
        self.copies = {}  # (backward operation, forward operation that runs again before it): a literal
        self.build()

    def useful(self):
        """For every slot (index of a backward operation) the forward operations that may usefully run again there."""
        p, wanted, slots = self.p, set(), {}
        for i in range(len(p.ops) - 1, -1, -1):
            op = p.ops[i]
            if not op["compute"] or op["forward"]:
                continue
            reads = [r for r in op["reads"] if p.activation(r)]
            todo = reads[:]
            while todo:
                root = todo.pop()
                if p.values[root]["source"] or p.producer[root] in wanted:
                    continue
                wanted.add(p.producer[root])
                todo += [r for r in p.ops[p.producer[root]]["reads"] if p.activation(r)]
            if reads or (self.every_slot and i < p.end):
                slots[i] = sorted(wanted)
        return slots

    def build(self):
        p, m = self.p, self.m
        slots = self.useful()
        events = []  # operation, literal or None if it runs in any case, the operation of the program that it stands at
        for i, op in enumerate(p.ops):
            if not op["compute"]:
                continue
            for j in slots.get(i, []):
                self.copies[(i, j)] = literal = m.variable()
                m.objective[literal[1]] = p.ops[j]["cost"]
                events.append((j, literal, i))
            events.append((i, None, i))
        # Gradients and states live as the order says.
        last = {}
        for i, op in enumerate(p.ops):
            if op["compute"]:
                for r in op["reads"]:
                    last[r] = i
        for r in p.kept_to_end:
            last[r] = p.end - 1 if p.producer[r] < p.end else len(p.ops) - 1
        fixed = [0] * (len(p.ops) + 1)
        for r, value in enumerate(p.values):
            if value["root"] != r or value["source"] or p.activation(r):
                continue
            born = p.producer[r]
            fixed[born + 1] += p.bytes[r]  # at the operation itself it is a result
            fixed[max(last.get(r, born), born) + 1] -= p.bytes[r]
        for i in range(1, len(fixed)):
            fixed[i] += fixed[i - 1]
        # The last event that may read a value, copies included; the last of forward.
        final, forward_final = {}, {}
        for e, (index, literal, _) in enumerate(events):
            for r in p.ops[index]["reads"]:
                final[r] = e
                if literal is None and p.ops[index]["forward"]:
                    forward_final[r] = e
        live = {}  # of roots: whether it is there after the last event; missing: it is not
        for op in p.ops:
            if op["kind"] == "source":
                live.update({r: TRUE for r in op["results"] if p.activation(r)})
        for e, (index, literal, slot) in enumerate(events):
            op, again = p.ops[index], literal is not None
            reads = [r for r in op["reads"] if p.activation(r)]
            for r in reads:
                there = live.get(r, Program.negated(TRUE))
                if again:
                    m.implies(literal, there)
                else:
                    m.any_of([there])
            after = dict(live)
            for r in reads:
                if r in p.kept_to_end:
                    continue
                if e >= final[r]:
                    after.pop(r, None)
                elif r in live and (again or not op["forward"] or forward_final[r] == e):
                    after[r] = m.variable()
                    m.implies(after[r], live[r])
            for r in op["results"]:
                if not p.activation(r):
                    continue
                if r in p.kept_to_end or forward_final.get(r, -1) > e:
                    after[r] = TRUE
                elif e > final.get(r, -1):
                    after.pop(r, None)
                else:
                    after[r] = m.variable()
                    if again:
                        m.any_of([Program.negated(after[r]), literal] + ([live[r]] if r in live else []))
            terms = [(p.bytes[r], there) for r, there in live.items()]
            terms += [(-size, gain) for size, gain in self.taken_over(op, index, again, last, after)]
            constant = p.persistent + fixed[slot] + p.workspace[index] + sum(p.bytes[r] for r in op["results"])
            m.at_most(terms, p.budget - constant, literal)
            live = after

    def taken_over(self, op, index, again, last, after):
        """Results in the place of operands that die here, of each size at most as many as there are results."""
        p, m, gains = self.p, self.m, []
        sizes = [p.values[r]["bytes"] for r in op["results"]]
        for size in set(sizes):
            room, options, lies = sizes.count(size), [], p.aligned(size, p.alignment)
            for r in op["gives"]:
                if p.values[r]["bytes"] != size or r in p.kept_to_end:
                    continue
                if not p.activation(r):
                    if last.get(r) == index and not again:
                        options.append(TRUE)
                else:
                    options.append(Program.negated(after[r]) if r in after else TRUE)
            if len(options) > room:
                chosen = [m.variable() for _ in options]
                for c, o in zip(chosen, options):
                    m.implies(c, o)
                m.at_most([(1, c) for c in chosen], room)
                options = chosen
            gains += [(lies, o) for o in options]
        return gains


def show(p, solver, values):
    """What runs again, and before which operation: the solver's and the planner's."""
    line = []
    for (i, j), (_, variable, _) in sorted(solver.copies.items()):
        if values[variable]:
            line.append(f"{p.ops[j]['name']}.{j}<{i}")
    print("    solver: ", " ".join(line))
    seen, waiting, line = set(), [], []
    for index in p.plan["sequence"]:
        if index in seen and p.ops[index]["compute"]:
            waiting.append(index)
        elif p.ops[index]["compute"] and not p.ops[index]["forward"]:
            line += [f"{p.ops[j]['name']}.{j}<{index}" for j in waiting]
            waiting = []
        seen.add(index)
    print("    planner:", " ".join(line))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="prints problems; or FILE of them")
    parser.add_argument("--seconds", type=float, default=60, help="limit of each problem; what is not proven by then is said")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every-slot", action="store_true", help="copies before every backward operation, not only readers")
    parser.add_argument("--median", type=float, default=0.02, help="largest median gap allowed")
    parser.add_argument("--worst", type=float, default=0.05, help="largest gap allowed")
    parser.add_argument("--unproven", type=float, default=0.1, help="largest share of problems not solved to the end")
    parser.add_argument("--only", default="", help="problems whose name contains this")
    parser.add_argument("--show", action="store_true", help="what the solver runs again, beside the planner's")
    options = parser.parse_args()
    if not options.command:
        parser.error("no command is given")
    if len(options.command) == 1:
        lines = open(options.command[0]).readlines()
    else:
        lines = subprocess.run(options.command, check=True, capture_output=True, text=True).stdout.splitlines()
    gaps, bound_gaps, bad, unproven = [], [], 0, 0
    for line in lines:
        p = Problem(line)
        if options.only not in p.name:
            continue
        plan, problems = p.plan, []
        live = p.replay(plan["sequence"])
        if live != plan["live_bytes"]:
            problems.append(f"the plan has {plan['live_bytes']} bytes alive by the planner's count, {live} by this one")
        if plan["arena_bytes"] > p.budget:
            problems.append("the arena is above the budget")
        if plan["cost"] == 0:
            print(f"{p.name:40} budget {p.budget:10} nothing runs again  {'; '.join(problems) or 'ok'}", flush=True)
            bad += bool(problems)
            gaps.append(0.0)
            continue
        solver = Solver(p, options.every_slot)
        begin = time.monotonic()
        values, best, proven = solver.m.solve(options.seconds, options.threads)
        seconds = time.monotonic() - begin
        mille = 1000 / plan["step_cost"]
        if values is None:  # nothing found in its time: the planner's plan is judged by what was proven
            best = plan["cost"]
        if plan["bound"] > best:
            problems.append("the printed bound is above a solution")
        # The planner also orders copies and may win.
        gap = max(0.0, plan["cost"] / max(best, 1) - 1)
        unproven += proven < best
        gaps.append(gap)
        bound_gaps.append(1 - plan["bound"] / plan["cost"])
        print(f"{p.name:40} budget {p.budget:10} planner {plan['cost'] * mille:7.2f} solver {best * mille:7.2f} "
              f"proven {proven * mille:7.2f} bound {plan['bound'] * mille:7.2f} gap {100 * gap:6.2f}% "
              f"{seconds:6.1f} s  {'; '.join(problems) or 'ok'}", flush=True)
        if options.show and values is not None:
            show(p, solver, values)
        bad += bool(problems)
    if not gaps:
        sys.exit("no problem was read")
    gaps.sort()
    median, worst = statistics.median(gaps), gaps[-1]
    at = lambda share: gaps[min(len(gaps) - 1, int(share * len(gaps)))]
    print(f"{len(gaps)} problems; cost above the solver's: median {100 * median:.2f}%, 90% {100 * at(0.9):.2f}%, "
          f"worst {100 * worst:.2f}%; {unproven} not proven within {options.seconds:g} s; {bad} wrong")
    if bound_gaps:
        print(f"the bound that the planner prints, below its cost: median {100 * statistics.median(bound_gaps):.2f}%, "
              f"worst {100 * max(bound_gaps):.2f}%")
    sys.exit(1 if bad or median > options.median or worst > options.worst or unproven > options.unproven * len(gaps) else 0)


if __name__ == "__main__":
    main()
