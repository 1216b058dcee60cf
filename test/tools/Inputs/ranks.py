"""ranks.py HOW CODE TEXT COMMAND…: runs COMMAND, does something to its ranks once step 2 is done, and expects that it ends
with that exit code, with one error (none if TEXT is empty) which has TEXT in it, and with no process left; with
--nproc-per-node, nothing but results is on standard output. HOW: nothing; kill or stop, which signal rank 2; above, which
kills what the launcher has started as rank 2, the rank's parent; terminate, which asks COMMAND to end; twice, which asks
it by two SIGINT 50 ms apart; orphan, which kills COMMAND itself; launcher, which kills what is between it and the ranks."""
import os
import signal
import subprocess
import sys
import threading
import time

how, code, text, *command = sys.argv[1:]
patience = 60  # seconds, for a machine with other work


def below(pid):
    """Processes that descend from pid: {their id: name}."""
    names, parents = {}, {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", errors="replace") as file:
                stat = file.read()
        except OSError:  # it has ended meanwhile
            continue
        state, parent = stat[stat.rindex(")") + 2:].split()[:2]
        if state != "Z":
            names[int(entry)] = stat[stat.index("(") + 1:stat.rindex(")")]
            parents[int(entry)] = int(parent)
    found = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return {process: names[process] for process in found - {pid} if process in names}
        found |= more


def rank_of(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            words = dict(word.partition(b"=")[::2] for word in file.read().split(b"\0"))
    except OSError:
        return None
    value = words.get(b"PMI_RANK", words.get(b"OMPI_COMM_WORLD_RANK"))
    return value and int(value)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def parent_of(pid):
    with open(f"/proc/{pid}/stat", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[1])


run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
lines, results, two = [], [], threading.Event()


def read(stream):
    for line in stream:
        lines.append(line.rstrip("\n"))
        if stream is run.stdout:
            results.append(line)
        if line.startswith("step 2 "):
            two.set()
    two.set()


readers = [threading.Thread(target=read, args=[stream], daemon=True) for stream in (run.stdout, run.stderr)]
for reader in readers:
    reader.start()
everybody = {}
if how != "nothing":
    assert two.wait(patience), lines
    everybody = below(run.pid)
    leaves = [pid for pid, name in everybody.items() if name == "amrun" and not below(pid)]
    if how in ("kill", "stop"):
        [target] = [pid for pid in leaves if rank_of(pid) == 2]
        os.kill(target, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
    elif how == "above":
        [target] = [pid for pid in leaves if rank_of(pid) == 2]
        started = parent_of(target)
        os.kill(started, signal.SIGKILL)
        text = text.replace("PID", str(started))
    elif how == "terminate":
        run.terminate()
    elif how == "twice":
        run.send_signal(signal.SIGINT)
        time.sleep(0.05)
        run.send_signal(signal.SIGINT)
    elif how == "orphan":
        run.kill()
    else:
        for pid, name in everybody.items():
            if "proxy" in name:
                os.kill(pid, signal.SIGKILL)
try:
    ended = run.wait(patience)
finally:
    run.kill()
until = time.monotonic() + 10
while (left := [pid for pid in everybody if alive(pid)]) and time.monotonic() < until:
    time.sleep(0.05)
for pid in left:
    os.kill(pid, signal.SIGKILL)
for reader in readers:
    reader.join(10)
output = "\n".join(lines)
assert not left, f"still there: {left}\n{output}"
assert ended == int(code), f"exit code {ended}\n{output}"
if "--nproc-per-node" in command:
    assert all(line.startswith("step ") for line in results), results
    assert not any(word in output for word in ("mpiexec@", "proxy:", "assert", "BAD TERMINATION")) or how == "launcher", output
errors = [line for line in lines if "error: " in line]
assert len(errors) == (1 if text else 0) and text in "".join(errors), output
