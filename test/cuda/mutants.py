#!/usr/bin/env python3
"""mutants.py BUILD [NUMBER…]: defects put into the CUDA device on purpose, each of which a test has to catch.

A mutant (mutants.json) is one change of one place: of the runtime's C++ or of a kernel's CUDA C++, in which case
libamrt_cuda.so is made again in a folder of its own from the changed file and the build's other objects; or of the PTX that
a plan carries, as another code generator would have written it. Then the tests that it names run on the emulated device,
where a wrong number, a finding of the emulated driver, or an error is a catch:

  train    three steps of a fixture: the CPU's losses, and the weights
  fused    the same of a plan whose kernels are fused differently
  ranks    three steps on two ranks, fsdp2 with overlap
  kernels:FILTER   unit-runtime's tests on the GPU

The unchanged device has to pass them first. Prints a line a mutant, exits 1 if one survives or could not be judged.
"""
import argparse
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 300  # seconds a test


class Device:
    """A copy of the programs with a libamrt_cuda.so of its own."""

    def __init__(self, build, work):
        self.build, self.work = build, work
        if work.exists() and any(work.iterdir()) and not (work / "plans").exists():
            sys.exit(f"mutants.py: {work} is not empty, and not from an earlier run")
        shutil.rmtree(work, ignore_errors=True)
        for folder in ("bin", "lib", "ptx", "plans"):
            (work / folder).mkdir(parents=True)
        for program in ("amrun", "unit-runtime"):
            shutil.copy2(build / "bin" / program, work / "bin" / program)  # they look for lib/ beside themselves
        for library in (build / "lib").glob("*.so"):
            shutil.copy2(library, work / "lib" / library.name)
        self.commands = {}
        listed = subprocess.run(["ninja", "-C", str(build), "-t", "commands", "lib/libamrt_cuda.so"], capture_output=True,
                                text=True, check=True).stdout.splitlines()
        self.link = listed[-1]
        for line in listed:
            for source in re.findall(r"runtime/device/cuda/(\S+\.(?:cpp|cu))(?=[\s\"']|$)", line):
                self.commands[source] = line
        self.environment = dict(os.environ, AMC_TEST_TARGET="cuda:sm_90", EMULATED_CUDA_ABORT="1",  # one finding is enough
                                LD_LIBRARY_PATH=str(build / "test/emulated_cuda/lib"))

    def run(self, command, what):
        done = subprocess.run(command, shell=True, cwd=self.build, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"mutants.py: {what} failed: {command}\n{done.stdout}{done.stderr}")

    def make(self, file, text):
        """libamrt_cuda.so with `text` in the place of runtime/device/cuda/FILE."""
        original = ROOT / "runtime/device/cuda" / file
        changed = self.work / pathlib.Path(file).name
        changed.write_text(text)
        link = self.link
        if file.endswith(".cu"):
            name = original.stem
            for other in (self.build / "runtime/device/cuda").glob("*.*"):
                if other.suffix in (".ptx", ".fatbin"):  # the emulated device runs the text
                    shutil.copy2(other, self.work / "ptx" / other.name)
            made = str(self.work / "ptx" / f"{name}.ptx")
            command = self.commands[file].replace(str(original), str(changed))
            command = re.sub(r"(?<=\s)\S*" + name + r"\.ptx(?=\s|$)", made, command)
            self.run(command, "nvcc")
            source = "Ptx.cpp"
            command = re.sub(r"AMC_PTX_DIR=\S+", f'AMC_PTX_DIR=\\\\"{self.work / "ptx"}\\\\"', self.commands["Ptx.cpp"])
        else:
            source, command = file, self.commands[file].replace(str(original), str(changed))
        object_file = re.search(r" -o (\S+\.o)", self.commands[source])[1]
        made = str(self.work / "changed.o")
        self.run(command.replace(object_file, made), "the compiler")
        self.run(re.sub(r"\S*/" + re.escape(pathlib.Path(object_file).name) + r"(?=\s)", made, link)
                 .replace("-o lib/libamrt_cuda.so", f"-o {self.work / 'lib/libamrt_cuda.so'}"), "the linker")

    def restore(self):
        shutil.copy2(self.build / "lib/libamrt_cuda.so", self.work / "lib/libamrt_cuda.so")

    # ---- tests: what they found, None if nothing

    def compile(self, name, flags):
        plan = self.work / "plans" / f"{name}.amplan"
        if not plan.exists():
            subprocess.run([self.build / "bin/amc", "compile", ROOT / "test/fixtures/llama/model.onnx", "-o", plan, "--lr=1e-3",
                            "--max-grad-norm=1.0", *flags], check=True, capture_output=True)
        return plan

    def train(self, plan, reference, ranks=1):
        log, weights = self.work / "log", self.work / "weights"
        for file in (log, weights):
            file.unlink(missing_ok=True)
        command = [self.work / "bin/amrun", plan, "--data", ROOT / "test/fixtures/llama/batches.safetensors", "--steps", "3",
                   "--log-json", log, "--save-weights", weights] + (["--nproc-per-node", str(ranks)] if ranks > 1 else [])
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return f"it has not ended within {LIMIT} s"
        if done.returncode != 0:
            said = [line for line in done.stderr.splitlines() if "finding" in line or "error" in line] or done.stderr.splitlines()
            return f"exit code {done.returncode}: {said[0] if said else ''}"
        for number, (ours, theirs) in enumerate(zip(map(json.loads, log.read_text().splitlines()), reference, strict=True), 1):
            for key, bound in (("loss", 1e-5), ("grad_norm", 1e-4)):
                if not abs(ours[key] - theirs[key]) <= bound * abs(theirs[key]):  # not a number is a difference
                    return f"step {number}: {key} is {ours[key]}, should be {theirs[key]}"
        return None

    def reference(self, name, flags, ranks):
        log = self.work / "reference"
        log.unlink(missing_ok=True)
        plan = self.compile(f"{name}-cpu", flags)
        subprocess.run([self.build / "bin/amrun", plan, "--data", ROOT / "test/fixtures/llama/batches.safetensors", "--steps", "3",
                        "--log-json", log] + (["--nproc-per-node", str(ranks)] if ranks > 1 else []), check=True, capture_output=True)
        return list(map(json.loads, log.read_text().splitlines()))

    def test(self, name, references, ptx=None):
        if name.startswith("kernels:"):
            try:
                done = subprocess.run([self.work / "bin/unit-runtime", f"--gtest_filter={name[8:]}", "--gtest_fail_fast"], env=self.environment,
                                      capture_output=True, text=True, timeout=LIMIT)
            except subprocess.TimeoutExpired:
                return f"it has not ended within {LIMIT} s"
            failed = re.findall(r"\[  FAILED  \] (\S+)", done.stdout)
            ran = re.search(r"\[  PASSED  \] (\d+) test", done.stdout)
            if done.returncode == 0 and (not ran or ran[1] == "0"):
                sys.exit(f"mutants.py: {name} runs no test")
            found = [line for line in done.stderr.splitlines() if "finding" in line]
            why = found[0] if found else failed[0] if failed else f"exit code {done.returncode}"
            return why if done.returncode != 0 else None
        flags, ranks = {"train": ([], 1), "fused": (["--fusion=off"], 1),
                        "ranks": (["--dp-size=2", "--overlap=prefetch"], 2)}[name]
        if name not in references:
            references[name] = self.reference(name, flags, ranks)
        plan = self.compile(name, flags + ["--target=cuda:sm_90"])
        if ptx:
            changed = self.work / "plans/changed.amplan"
            subprocess.run([self.build / "bin/amc-change-ptx", plan, changed, *ptx], check=True)
            plan = changed
        return self.train(plan, references[name], ranks)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("numbers", nargs="*", type=int, help="of mutants; all by default")
    parser.add_argument("--work", type=pathlib.Path, help="folder for what is made, emptied; BUILD/cuda-mutants")
    options = parser.parse_args()
    build = options.build.resolve()
    mutants = json.loads((ROOT / "test/cuda/mutants.json").read_text())
    chosen = [(i, m) for i, m in enumerate(mutants, 1) if not options.numbers or i in options.numbers]
    device, references = Device(build, (options.work or build / "cuda-mutants").resolve()), {}
    failing = set()
    for name in sorted({test for _, mutant in chosen for test in mutant["tests"]}):
        if found := device.test(name, references):
            print(f"the unchanged device fails {name}, which judges nothing: {found}", flush=True)
            failing.add(name)
    survivors, unjudged = 0, 0
    for number, mutant in chosen:
        if failing & set(mutant["tests"]):
            unjudged += 1
            continue
        ptx = None
        if mutant["file"] == "ptx":
            ptx = [mutant["find"], mutant["replace"], str(mutant.get("occurrence", 1))]
        else:
            text = (ROOT / "runtime/device/cuda" / mutant["file"]).read_text()
            if text.count(mutant["find"]) < mutant.get("occurrence", 1):
                sys.exit(f"mutants.py: mutant {number}: {mutant['file']} has no '{mutant['find']}'")
            at = -1
            for _ in range(mutant.get("occurrence", 1)):
                at = text.index(mutant["find"], at + 1)
            device.make(mutant["file"], text[:at] + mutant["replace"] + text[at + len(mutant["find"]):])
        caught = None
        for name in mutant["tests"]:
            caught = caught or device.test(name, references, ptx)
        device.restore()
        print(f"{number:3} {mutant['what']:58} {mutant['file']:28} {'caught: ' + caught[:140] if caught else 'SURVIVED'}", flush=True)
        survivors += not caught
    print(f"{len(chosen)} mutants, {survivors} survived, {unjudged} not judged")
    sys.exit(1 if survivors or unjudged else 0)


if __name__ == "__main__":
    main()
