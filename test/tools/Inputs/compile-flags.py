"""compile-flags.py BIN: amrun answers each flag of `amc compile` that is none of its own by naming amc compile."""
import re
import subprocess
import sys

folder = sys.argv[1]


def flags(*command):
    text = subprocess.run([f"{folder}/{command[0]}", *command[1:], "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return set(re.findall(r"^ +(?:-[a-z], *)?(--[a-z-]+)", text, re.M))


alone = flags("amc", "compile") - flags("amrun")
assert "--max-grad-norm" in alone and "--lr" not in alone, alone
for flag in sorted(alone):
    done = subprocess.run([f"{folder}/amrun", "m.amplan", "--data", "d", "--steps", "1", flag, "x"], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and f"{flag} belongs to amc compile" in done.stderr, (flag, done.stderr)
