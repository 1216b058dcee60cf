"""Runs a command with a terminal as its stderr, and prints what it wrote there: terminal.py COMMAND…"""
import os
import pty
import subprocess
import sys

here, there = pty.openpty()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=there)
os.close(there)
while True:
    try:
        text = os.read(here, 4096)
    except OSError:  # the other side is closed
        break
    if not text:
        break
    sys.stdout.write(text.decode().replace("\r\n", "\n"))
sys.exit(process.wait())
