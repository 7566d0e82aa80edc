"""Builds what is generated: gRPC stubs from proto/ and BPF objects from bpf/.

Runs as hatchling's build hook, for wheels and for editable installs alike. Needs clang and libbpf's
headers (Debian: clang, libbpf-dev) at build time only; the wheel carries the results.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MULTIARCH = f"/usr/include/{os.uname().machine}-linux-gnu"


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Generates into netagent/ before the files of the wheel are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate stubs and objects; version is `standard` or `editable`."""
        root = Path(self.root)
        generate_stubs(root)
        compile_bpf(root)
        build_data["pure_python"] = True


def generate_stubs(root: Path) -> None:
    """Write *_pb2.py, *_pb2_grpc.py and their .pyi below netagent/api."""
    from grpc_tools import protoc  # only there while building

    protos = sorted(str(path) for path in (root / "proto").rglob("*.proto"))
    scripts = Path(sys.executable).parent
    plugins = [
        f"--plugin=protoc-gen-{name}={program}"
        for name in ("mypy_grpc",)
        if (program := shutil.which(f"protoc-gen-{name}", path=f"{scripts}:{os.environ['PATH']}"))
    ]
    if not plugins:
        raise RuntimeError("protoc-gen-mypy_grpc not found: install mypy-protobuf")
    include = Path(protoc.__file__).parent / "_proto"
    status = protoc.main(
        [
            "protoc",
            *plugins,
            f"-I{root / 'proto'}",
            f"-I{include}",
            f"--python_out={root}",
            f"--pyi_out={root}",
            f"--grpc_python_out={root}",
            f"--mypy_grpc_out={root}",
            *protos,
        ]
    )
    if status != 0:
        raise RuntimeError("protoc failed; its messages are above")


def compile_bpf(root: Path) -> None:
    """Compile each bpf/*.bpf.c into netagent/dataplane/objects/*.bpf.o."""
    clang = shutil.which("clang")
    if clang is None:
        raise RuntimeError("clang not found: install clang and libbpf-dev")
    objects = root / "netagent" / "dataplane" / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    for source in sorted((root / "bpf").glob("*.bpf.c")):
        subprocess.run(
            [
                clang,
                *("-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"),
                *(f"-I{root / 'bpf'}", f"-I{MULTIARCH}"),
                *("-c", str(source), "-o", str(objects / f"{source.stem}.o")),
            ],
            check=True,
        )
