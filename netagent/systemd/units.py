"""The units of both daemons: shipped as templates, installed with the command's own path."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

DAEMONS = ("control", "agent")
UNIT_DIR = Path("etc/systemd/system")
COMMAND = "@NETAGENT@"


def unit_name(daemon: str) -> str:
    """Return the unit's name. daemon: one of DAEMONS."""
    return f"netagent-{daemon}.service"


def render_unit(daemon: str, command: Path) -> str:
    """Return a daemon's unit. command: absolute path of `netagent`."""
    template = (files("netagent.systemd") / "units" / unit_name(daemon)).read_text()
    return template.replace(COMMAND, _escape(command))


def _escape(path: Path) -> str:
    """Return a path as systemd.service(5) reads it in a command line."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    text = text.replace("$", "$$")
    return f'"{text}"' if any(letter in text for letter in " \t'\\") else text


def install_units(daemons: tuple[str, ...], command: Path, root: Path) -> list[Path]:
    """Write the units below a root directory; return the files that changed. Idempotent."""
    changed = []
    directory = root / UNIT_DIR
    directory.mkdir(parents=True, exist_ok=True)
    for daemon in daemons:
        path = directory / unit_name(daemon)
        text = render_unit(daemon, command)
        if path.exists() and path.read_text() == text:
            continue
        partial = path.with_suffix(".partial")
        partial.write_text(text)
        partial.chmod(0o644)
        partial.replace(path)
        changed.append(path)
    return changed


def remove_units(daemons: tuple[str, ...], root: Path) -> list[Path]:
    """Remove the units below a root directory; return the files that were there."""
    there = [root / UNIT_DIR / unit_name(daemon) for daemon in daemons]
    removed = [path for path in there if path.exists()]
    for path in removed:
        path.unlink()
    return removed
