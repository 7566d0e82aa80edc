"""A new release of the programs takes over in place, under traffic."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import netagent
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.probe import probing
from integration.lab.stream import streaming
from integration.scenarios.kernel import ENDPOINT, LOCATION, TRANSITION, table
from integration.scenarios.traffic import place_of
from netagent.dataplane.abi import pin_directory


def _make_release(directory: Path) -> Path:
    """Return a directory with a netagent whose programs are other files with the same code."""
    package = Path(netagent.__file__).parent
    shutil.copytree(package, directory / "netagent", ignore=shutil.ignore_patterns("__pycache__"))
    for program in (directory / "netagent" / "dataplane" / "objects").glob("*.bpf.o"):
        # Past the end of what the ELF header describes: loads alike, and has another digest.
        program.write_bytes(program.read_bytes() + b"another release")
    return directory


def _programs(host: Host) -> set[str]:
    """Return the names of the filters on all interfaces; each has its program's digest."""
    found = set()
    for line in host.run("ip", "-o", "link").splitlines():
        interface = line.split(": ")[1].partition("@")[0]
        for side in ("ingress", "egress"):
            shown = host.run("tc", "filter", "show", "dev", interface, side, check=False)
            found |= {word for word in shown.split() if word.startswith("netagent/")}
    return found


def _maps(host: Host) -> list[int]:
    ids = []
    for layout in (LOCATION, TRANSITION, ENDPOINT):
        with table(host, layout) as opened:
            ids.append(opened.map_id)
    return ids


def test_programs_are_exchanged_without_losing_a_packet(lab: Lab, tmp_path: Path) -> None:
    release = _make_release(tmp_path)
    web, db = lab.machine("shop/web", "host-a"), lab.machine("shop/db", "host-b")
    web.wait_reaches(db)
    hosts = lab.hosts["host-a"], lab.hosts["host-b"]
    old_programs = [_programs(host) for host in hosts]
    old_maps = [_maps(host) for host in hosts]

    with (
        probing(place_of(web), place_of(db), lab.directory) as probe,
        streaming(web.namespace, db.namespace, db.address) as stream,
    ):
        connection = stream.connection()
        for host in hosts:
            host.agent.end(signal.SIGTERM)
            host.agent.start(release)
            host.wait_in_step()
        assert stream.is_alive_after(connection)
        record = probe.stop()

    assert record.whole().lost == 0
    for host, old in zip(hosts, old_programs, strict=True):
        assert len(_programs(host)) == len(old)
        assert not _programs(host) & old
        pinned = host.run("ls", str(pin_directory(Path("/sys/fs/bpf")) / "programs")).split()
        assert {f"netagent/{name}" for name in pinned} >= _programs(host)
        assert not {f"netagent/{name}" for name in pinned} & old
    assert [_maps(host) for host in hosts] == old_maps
