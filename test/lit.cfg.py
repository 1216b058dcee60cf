# lit's configuration. `lit-22 test/passes/attach-loss.mlir` runs one test against build/; another build folder:
# `lit-22 --param build=DIR …`.
import os
import shutil
import stat
import subprocess
import sys
import tempfile

import lit.formats

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
build = os.path.abspath(lit_config.params.get("build", os.path.join(root, "build")))
llvm_tools = lit_config.params.get("llvm_tools", "/usr/lib/llvm-22/bin")

config.name = "amc"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["Inputs", "unit", "fixtures", "parity", "bench", "gradients", "conformance"]
config.test_source_root = os.path.join(root, "test")
config.test_exec_root = os.path.join(build, "test")
os.makedirs(config.test_exec_root, exist_ok=True)

config.environment["PATH"] = os.pathsep.join([os.path.join(build, "bin"), llvm_tools, os.environ.get("PATH", "")])
config.environment["FILECHECK_OPTS"] = "-enable-var-scope --allow-unused-prefixes=false"
# What a developer has set in the shell must not change what a test sees.
for name in ("AMC_SELECTIVE_AC_TRACE", "NEMO_SELECTIVE_AC_TRACE", "AMC_NUM_THREADS"):
    config.environment.pop(name, None)
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
    if name in os.environ:
        config.environment[name] = os.environ[name]

config.substitutions.append(("%fixtures", os.path.join(root, "test", "fixtures")))
config.substitutions.append(("%root", root))
config.substitutions.append(("%python", sys.executable))
config.substitutions.append(("%bin", os.path.join(build, "bin")))
# %exits CODE COMMAND…: the command has to end with that exit code.
config.substitutions.append(("%exits", os.path.join(root, "test", "tools", "Inputs", "exits")))


def can_mount():
    """Whether this process may mount a small tmpfs, which stands in for a full disk."""
    directory = tempfile.mkdtemp()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", directory]
        if subprocess.run(command, capture_output=True).returncode != 0:
            return False
        return subprocess.run(["umount", directory], capture_output=True).returncode == 0
    finally:
        os.rmdir(directory)


def can_make_devices():
    """Whether this process may make a device node and write to it (a folder mounted nodev forbids that)."""
    with tempfile.TemporaryDirectory(dir=config.test_exec_root) as directory:
        node = os.path.join(directory, "null")
        try:
            os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(1, 3))
            with open(node, "wb") as file:
                file.write(b"x")
            return True
        except OSError:
            return False


# %emulated COMMAND…: with the emulated CUDA device of test/emulated_cuda in the place of NVIDIA's libraries.
emulated = os.path.join(build, "test", "emulated_cuda", "lib")
config.substitutions.append(("%emulated", f"env LD_LIBRARY_PATH={emulated}"))
if os.path.exists(os.path.join(emulated, "libcuda.so.1")) and os.path.exists(os.path.join(build, "lib", "libamrt_cuda.so")):
    config.available_features.add("emulated-cuda")
if can_make_devices():
    config.available_features.add("device-nodes")
if can_mount():
    config.available_features.add("mount")
if shutil.which("chromium"):
    config.available_features.add("chromium")  # Debian's package of that name
if os.geteuid() != 0:
    config.available_features.add("not-root")  # root writes everywhere
