"""The bench's own programs, compiled."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hatch_build import MULTIARCH

EMPTY, AGAIN = "empty", "again"


def compile_program(name: str, directory: Path) -> Path:
    """Compile a program of the bench into a directory and return the object; its section is tc."""
    source = Path(__file__).with_name(f"{name}.bpf.c")
    target = directory / f"{name}.bpf.o"
    flags = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror", f"-I{MULTIARCH}"]
    subprocess.run(["clang", *flags, "-c", str(source), "-o", str(target)], check=True)
    return target
