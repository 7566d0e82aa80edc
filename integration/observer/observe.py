"""Runs in a guest, with BCC: loads programs.c and tells its counts to whoever connects.

usage: observe.py PROGRAMS UNDERLAY SOCKET
  UNDERLAY  name of the interface that leads to other hosts
  SOCKET    unix socket: each connection gets all counts as JSON, and ends
"""

import json
import os
import re
import socket
import sys
from pathlib import Path

import bcc

FORMAT = Path("/sys/kernel/debug/tracing/events/skb/kfree_skb/format")
DIRECTIONS = {1: "sent", 2: "received"}


def read_reasons() -> dict[int, str]:
    """Return the drop reasons of the running kernel, by number."""
    found = re.findall(r'\{ (0x[0-9a-f]+|\d+), "(\w+)" \}', FORMAT.read_text())
    return {int(number, 0): name for number, name in found}


def read_counts(programs: bcc.BPF, reasons: dict[int, str]) -> dict[str, list[list[object]]]:
    """Return all counts. Raises ValueError when headers and kernel name a reason differently."""
    freed = []
    for key, count in programs["freed"].items():
        reason = reasons.get(key.reason, str(key.reason))
        if bool(key.is_tc_ingress) != (reason == "TC_INGRESS"):
            raise ValueError(f"the headers are not this kernel's: reason {key.reason}, {reason}")
        function = bcc.BPF.ksym(key.location).decode()
        freed.append([key.interface.name.decode(), reason, function, count.value])
    return {
        "passed": [
            [key.interface.name.decode(), DIRECTIONS[key.direction], tally.packets, tally.bytes]
            for key, tally in programs["passed"].items()
        ],
        "freed": freed,
        "wires": [
            [
                DIRECTIONS[key.direction],
                *(key.ethertype, key.protocol, key.source, key.destination),
                count.value,
            ]
            for key, count in programs["wires"].items()
        ],
    }


def tell_systemd() -> None:
    """Say that the observer is ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])


def main(text: str, underlay: str, path: str) -> None:
    """Observe until killed."""
    flags = [f"-DUNDERLAY={socket.if_nametoindex(underlay)}"]
    programs = bcc.BPF(text=Path(text).read_text().encode(), cflags=flags)
    reasons = read_reasons()
    Path(path).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        tell_systemd()
        while True:
            caller, _ = listener.accept()
            with caller:
                caller.sendall(json.dumps(read_counts(programs, reasons)).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
