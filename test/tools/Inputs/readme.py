"""readme.py README BIN ROOT [--update]: runs the commands of the README's terminal session and compares what they print with
what stands there, numbers and spacing aside. --update writes what they print into the README."""
import os
import re
import subprocess
import sys
import tempfile

readme, binaries, root = (os.path.abspath(path) for path in sys.argv[1:4])
text = open(readme).read()
match = re.search(r"```console\n(.*?)```", text, re.S)
session = match.group(1)

folder = tempfile.mkdtemp()
os.mkdir(os.path.join(folder, "build"))
os.symlink(binaries, os.path.join(folder, "build", "bin"))
for name in ("test", "models", "configs"):
    os.symlink(os.path.join(root, name), os.path.join(folder, name))

ran = ""
for line in session.splitlines():
    if line.startswith("$ "):
        done = subprocess.run(line[2:], shell=True, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ran += line + "\n" + done.stdout
        if done.returncode != 0:
            sys.exit(f"{line}\nexit code {done.returncode}\n{done.stdout}")


def plain(output):
    lines = (" ".join(re.sub(r"[-+]?[0-9]+([.,][0-9]+)*(e[-+][0-9]+)?", "N", line).split()) for line in output.splitlines())
    # Units change with the numbers.
    return [re.sub(r"N ([KMGT]iB|B)\b", "N bytes", line) for line in lines]


if len(sys.argv) > 4:
    open(readme, "w").write(text.replace(session, ran))
elif plain(ran) != plain(session):
    for ours, theirs in zip(plain(ran), plain(session)):
        if ours != theirs:
            print(f"prints:     {ours}\nREADME has: {theirs}")
    sys.exit("the README's session is stale: python3 test/tools/Inputs/readme.py README.md build/bin . --update")
