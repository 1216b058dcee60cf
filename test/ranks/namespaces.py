"""namespaces.py TOOLS WORK FIXTURES: ranks on several hosts (hosts.py), real processes over TCP.

Training: for each mesh and division of its ranks among hosts, the losses, gradient norms and weights after ten steps are
to the bit those of the same plan on one host, through shared memory; what ranks of other hosts are sent has gone over
the cable; nothing runs when the launcher has ended. Failures, of a run without end on two hosts with two ranks each: a
rank is killed or stopped, or a host's cable is cut; the launcher ends with 3 within seconds, with one line that names the
rank, and no process is left on any host, the one cut off included.

Prints a line a run; exits 1 if any of it fails, 77 where there can be no such hosts. --only NAME,…: only those.
--perturb: on several hosts with twice the learning rate, and success is that all of them then differ.
"""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import hosts as machines

STEPS = 10
MESHES = {  # fixture, flags, hosts, ranks on each, do all ranks send all others what they send?
    "fsdp2-2 on 2 x 1": ("llama", ["--dp-size=2"], 2, 1, True),
    "fsdp2-4 on 2 x 2": ("llama", ["--dp-size=4"], 2, 2, True),
    "fsdp2-4 on 4 x 1": ("llama", ["--dp-size=4"], 4, 1, True),
    "fsdp2-8 on 4 x 2": ("llama", ["--dp-size=8"], 4, 2, True),
    "tp-2 on 2 x 1": ("llama", ["--tp-size=2"], 2, 1, True),
    "fsdp2-2-tp-2 on 2 x 2": ("llama", ["--dp-size=2", "--tp-size=2"], 2, 2, False),
    "cp-2 on 2 x 1": ("llama", ["--cp-size=2"], 2, 1, True),
    "ep-2 on 2 x 1": ("mixtral", ["--dp-size=2", "--ep-size=2"], 2, 1, True),
    "ep-2-shard-2 on 2 x 2": ("mixtral", ["--dp-size=4", "--ep-size=2"], 2, 2, False),
}
OUT_OF_REACH = r"out of reach: h\d has heard nothing for 10 s; the host, the network between or the process has stopped"
FAILURES = {  # what is done, the line, seconds that it may take
    "a rank is killed": (lambda run: os.kill(run.rank(3), signal.SIGKILL),
                         r"rank 3 \(pid \d+ on h1\) died: killed by signal 9 \(Killed\)", 5),
    "a rank crashes": (lambda run: os.kill(run.rank(1), signal.SIGSEGV),
                       r"rank 1 \(pid \d+ on h0\) died: killed by signal 11 \(Segmentation fault\)", 5),
    "a rank is stopped": (lambda run: os.kill(run.rank(2), signal.SIGSTOP), r"rank 2 \(on h1\) is " + OUT_OF_REACH, 20),
    "h1's cable is cut": (lambda run: run.hosts.link(1, "down"), r"ranks 2 and 3 \(on h1\) are " + OUT_OF_REACH, 20),
    "h0's cable is cut": (lambda run: run.hosts.link(0, "down"), r"ranks 0 and 1 \(on h0\) are " + OUT_OF_REACH, 20),
}


def say(name, problems, more):
    print(f"{name:22} {more:60} {'; '.join(problems) or 'ok'}", flush=True)
    return not problems


class Run:
    """amrun on hosts, or on one through shared memory."""

    def __init__(self, tools, work, fixture, hosts=None):
        self.tools, self.work, self.fixture, self.hosts = tools, work, fixture, hosts
        self.plan, self.weights, self.log = (os.path.join(work, name) for name in ("plan", "weights", "log"))
        with open(os.path.join(fixture, "meta.json")) as file:
            self.meta = json.load(file)

    def compile(self, flags):
        shape = ["--shape", f"input_ids={self.meta['batch']}x{self.meta['sequence']}"] if self.meta["dynamic"] else []
        subprocess.run([os.path.join(self.tools, "amc"), "compile", os.path.join(self.fixture, "model.onnx"), "-o", self.plan,
                        *shape, *flags], check=True, capture_output=True)

    def start(self, count, each, steps, path):
        """Of `each` ranks on each of `count` hosts; 0 hosts: of `each` ranks here."""
        for name in (self.weights, self.log):
            if os.path.exists(name):
                os.remove(name)
        launcher = ["mpirun", "-n", str(max(count, 1) * each)]
        if count:
            launcher += ["-hosts", ",".join(self.hosts.names[:count]), "-ppn", str(each)]
        environment = {"AMC_NUM_THREADS": "1"} | ({"AMC_COLLECTIVES": path} if path else {})
        return subprocess.Popen(
            [*launcher, os.path.join(self.tools, "amrun"), self.plan, "--data", os.path.join(self.fixture, "batches.safetensors"),
             "--steps", str(steps), "--save-weights", self.weights, "--log-json", self.log, "--verbose"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            env=(self.hosts.environment() if count else os.environ) | environment)

    def train(self, count, each, path=None):
        """Losses and norms, weights as bytes, bytes that a rank sends in a step; what is wrong."""
        process = self.start(count, each, STEPS, path)
        try:
            notes = process.communicate(timeout=120)[1]
        except subprocess.TimeoutExpired:
            running = self.hosts.left(0)
            process.kill()
            sys.exit(f"the run on {count} hosts does not end; still there: {running}")
        if process.returncode:
            sys.exit(f"exit code {process.returncode} of the run on {count} hosts:\n{notes[-2000:]}")
        with open(self.log) as file:
            steps = [json.loads(line) for line in file]
        with open(self.weights, "rb") as file:
            weights = file.read()
        expected = "mpi" if count else "shm"
        joined = re.search(r"joined by (\w+)", notes).group(1)
        problems = [] if joined == expected else [f"joined by {joined}"]
        return ([(step["loss"], step["grad_norm"]) for step in steps], weights,
                int(re.search(r"each rank sends (\d+) bytes", notes).group(1)), problems)

    def rank(self, number):
        """Its process."""
        for host in range(len(self.hosts.names)):
            for name, pid in self.hosts.processes(host):
                with open(f"/proc/{pid}/environ") as file:
                    ours = f"PMI_RANK={number}" in file.read().split("\0")
                with open(f"/proc/{pid}/task/{pid}/children") as file:
                    supervisor = file.read().strip()
                if name == "amrun" and ours and not supervisor:
                    return pid
        sys.exit(f"there is no process of rank {number}")


def check_training(options, hosts, name):
    fixture, flags, count, each, evenly = MESHES[name]
    run = Run(options.tools, options.work, os.path.join(options.fixtures, fixture), hosts)
    run.compile(flags)
    alone = run.train(0, count * each)
    if options.perturb:
        run.compile([*flags, f"--lr={2 * run.meta['optimizer'].get('lr', 1e-3)}"])
    before = hosts.sent(0)
    got = run.train(count, each)
    sent = hosts.sent(0) - before
    least = got[2] * STEPS * each * (count - 1) * each // (count * each - 1)
    problems = got[3] + alone[3]
    if evenly and sent < least:
        problems.append(f"h0 has sent {sent} bytes, should be {least} at least")
    left = hosts.left(5)
    if left:
        problems.append(f"left over: {left}")
    same = got[0] == alone[0] and got[1] == alone[1]
    if same == options.perturb:
        problems.append("same bits" if same else f"other losses: {got[0]}, one host's: {alone[0]}" if got[0] != alone[0] else "other weights")
    return say(name, problems, f"loss {got[0][-1][0]:.9g}, h0 sent {sent} bytes of at least {least if evenly else 0}")


def check_failure(options, hosts, name):
    act, line, seconds = FAILURES[name]
    run = Run(options.tools, options.work, os.path.join(options.fixtures, "llama"), hosts)
    run.compile(["--dp-size=4"])
    process = run.start(2, 2, 10**8, None)
    end = time.monotonic() + 60
    while not (os.path.exists(run.log) and os.path.getsize(run.log) > 1000):  # some steps
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            sys.exit(f"the run does not start:\n{process.communicate()[1][-2000:]}")
        time.sleep(0.1)
    time.sleep(1)  # hearts beat
    begin = time.monotonic()
    act(run)
    problems = []
    try:
        notes = process.communicate(timeout=seconds + 30)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        notes = process.communicate()[1]
    took = time.monotonic() - begin
    if took > seconds:
        problems.append(f"took {took:.1f} s, should be {seconds} at most")
    if process.returncode != 3:
        problems.append(f"exit code {process.returncode}, should be 3")
    errors = re.findall(r"^amrun: error: (.*)$", notes, re.MULTILINE)
    if len(errors) != 1 or not re.fullmatch(r"(step \d+: instructions\[\d+\] \(.*?\): )?" + line, errors[0]):
        problems.append(f"said {errors}, should be {line}")
    tail = notes[notes.index(errors[-1]) + len(errors[-1]):].strip() if errors else notes[-2000:]
    if tail:
        problems.append(f"and after it: {tail}")
    left = hosts.left(15)
    if left:
        problems.append(f"left over: {left}")
    ended = time.monotonic() - begin
    for host in range(2):
        hosts.link(host, "up")
    return say(name, problems, f"{took:.1f} s, {ended:.1f} s until nothing was left")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools")
    parser.add_argument("work")
    parser.add_argument("fixtures")
    parser.add_argument("--only")
    parser.add_argument("--perturb", action="store_true")
    options = parser.parse_args()
    if not shutil.which("mpirun"):
        machines.skip("there is no mpirun in PATH")
    if "HYDRA" not in subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout:
        machines.skip("mpirun is not MPICH's, whose options this test uses")
    machines.enter()
    os.makedirs(options.work, exist_ok=True)
    names = options.only.split(",") if options.only else [*MESHES, *([] if options.perturb else FAILURES)]
    with machines.Hosts(4) as hosts:
        results = [(check_training if name in MESHES else check_failure)(options, hosts, name) for name in names]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
