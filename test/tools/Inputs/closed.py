"""closed.py DESCRIPTOR CODE COMMAND…: runs a command with a pipe that nobody reads on descriptor 1 or 2; it has to end with
CODE (negative: by that signal)."""
import os
import subprocess
import sys

descriptor, expected, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
reading, writing = os.pipe()
os.close(reading)
# Python ignores SIGPIPE, and children would inherit that.
ended = subprocess.run(command, restore_signals=True, **{"stdout" if descriptor == "1" else "stderr": writing})
if ended.returncode != expected:
    sys.exit(f"{command[0]} ended with {ended.returncode}, should have with {expected}")
