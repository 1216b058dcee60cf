"""interrupt.py SIGNAL DIR WHOLE COMMAND…: runs COMMAND, sends it SIGNAL after its seventh line, resumes it, and compares
DIR/LATEST with WHOLE/LATEST, the same run uninterrupted, byte by byte."""
import os
import signal
import subprocess
import sys

name, directory, whole, *command = sys.argv[1:]
run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
for _ in range(7):
    line = run.stdout.readline()
    assert line.startswith("step "), line
run.send_signal(getattr(signal, "SIG" + name))
rest = run.stdout.read()
code = run.wait()
assert code == (0 if name == "TERM" else -signal.SIGKILL), f"exit code {code}"
assert "step 60 " not in rest, "the run was over before the signal came"
first = os.readlink(directory + "/LATEST")
resumed = subprocess.run(command + ["--resume"], capture_output=True, text=True)
assert resumed.returncode == 0, resumed.stderr
after = int(first.rpartition("_")[2])
assert resumed.stdout.startswith(f"step {after + 1} | "), resumed.stdout
names = sorted(os.listdir(whole + "/LATEST"))
assert names == sorted(os.listdir(directory + "/LATEST")), names
for file in names:
    ours, theirs = (open(f"{place}/LATEST/{file}", "rb").read() for place in (directory, whole))
    assert ours == theirs, f"{file} differs after resuming from {first}"
assert not [left for left in os.listdir(directory) if left.startswith(".")], os.listdir(directory)
if "--keep" in command:
    assert len(os.listdir(directory)) == 1 + 3, os.listdir(directory)
