"""vagrant/here: Vagrant on a machine without a libvirt of its own, or without KVM.

vagrant/here up                 what `vagrant up` does, in a place that is made for it
vagrant/here ssh host-a         any other command of Vagrant's as well
vagrant/here -- COMMAND...      a command inside, such as virsh list
vagrant/here end                ends all of it: machines, libvirtd, networks, disks
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from integration.lab.kept import KeptLab, directory_of, write_description
from integration.lab.namespace import CommandError, start_namespace
from integration.lab.vagrant.place import Place, mounts_of
from integration.lab.vagrant.wheel import put_wheel

NAME = "vagrant"
"""Of the lab that the place is; script/lab list shows it."""

NEED_WHEEL = ("up", "provision", "reload")


def main() -> int:
    """Run one command; return its exit code."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words else 2
    try:
        if words == ["end"]:
            return end()
        place = find_place() or make_place()
        if words[0] in NEED_WHEEL:
            put_wheel()
    except (RuntimeError, CommandError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    command = words[1:] if words[0] == "--" else ["vagrant", *words]
    line = place.command(command, {})
    os.execvp(line[0], line)


def find_place() -> Place | None:
    """Return the place that an earlier command has made."""
    fabric = KeptLab(NAME, directory_of(NAME)).namespaces().get("fabric")
    return Place(fabric) if fabric is not None else None


def make_place() -> Place:
    """Make one; it lives until `end`."""
    directory = directory_of(NAME)
    if directory.exists():  # whatever was there has ended, or never came up
        KeptLab(NAME, directory).end()
    directory.mkdir(mode=0o755)
    write_description(directory, True, {})
    fabric = start_namespace("fabric", directory, mounts=mounts_of(directory), is_bound=False)
    place = Place(fabric)
    try:
        place.start()
    except BaseException:
        end()
        raise
    return place


def end() -> int:
    """End the place, if there is one."""
    lab = KeptLab(NAME, directory_of(NAME))
    count = 0
    with suppress(FileNotFoundError):
        count = lab.end()
    print("ended" if count else "there is nothing to end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
