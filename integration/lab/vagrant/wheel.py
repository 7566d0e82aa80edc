"""netagent's wheel, where the Vagrantfile looks for it."""

from __future__ import annotations

from pathlib import Path

from integration.lab.vm.image import PROJECT
from integration.lab.vm.wheel import build_wheel

DIST = PROJECT / "vagrant" / "dist"


def put_wheel() -> Path:
    """Put the wheel of this checkout there, in the place of any other; return the file."""
    name, content = build_wheel()
    DIST.mkdir(exist_ok=True)
    for old in DIST.glob("*.whl"):
        if old.name != name:
            old.unlink()
    wheel = DIST / name
    if not wheel.exists() or wheel.read_bytes() != content:
        wheel.write_bytes(content)
    return wheel


if __name__ == "__main__":
    print(put_wheel().relative_to(PROJECT))
