"""Builds the wheel and checks that a host that installs it needs neither compiler nor protoc."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Return 0 when every program and every proto has its file in the wheel."""
    wanted = {f"netagent/dataplane/objects/{p.stem}.o" for p in (ROOT / "bpf").glob("*.bpf.c")}
    for proto in (ROOT / "proto").rglob("*.proto"):
        stem = proto.relative_to(ROOT / "proto").with_suffix("")
        wanted |= {f"{stem}_pb2.py", f"{stem}_pb2_grpc.py", f"{stem}_pb2.pyi"}
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
        subprocess.run([*command, "-w", directory, str(ROOT)], check=True)
        (wheel,) = Path(directory).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            missing = sorted(wanted - set(archive.namelist()))
    if missing:
        print("missing from the wheel:", *missing, sep="\n  ", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
