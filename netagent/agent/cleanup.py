"""Removes everything that the agent ever made on this host, and nothing else.

What is ours is known by our mark on it, not by records that may be lost: interfaces by their alias,
filters by their name, pins by their directory. Only what the interfaces of others were before is
told by the replica; without it they lose our filters and keep the rest.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from netagent.agent.config import AgentConfig
from netagent.agent.replica import read_handed_of_stopped
from netagent.agent.state_lock import hold_state_lock
from netagent.dataplane.datapath import Datapath
from netagent.dataplane.links import Links
from netagent.dataplane.wireguard import Mesh
from netagent.model.addresses import GATEWAY_MAC


def cleanup(config: AgentConfig) -> list[str]:
    """Remove interfaces, filters, pins and state; return what was removed, a line for each.

    Idempotent. Raises StateError, with nothing touched, while an agent runs; DataplaneError when
    the kernel refuses, with the rest still to be removed by another call.
    """
    if not config.state_dir.is_dir():
        return list(_remove_from_kernel(config))
    with hold_state_lock(config.lock):
        removed = [*_give_back(config), *_remove_from_kernel(config), *_remove_state(config)]
    return removed


def _give_back(config: AgentConfig) -> Iterator[str]:
    """Make the interfaces of others what they were, as far as the replica knows.

    Before their filters go: what was down is to let nothing in.
    """
    with Links() as links:
        for name, former in sorted(read_handed_of_stopped(config.replica).items()):
            link = links.find(name)
            # With another MAC it is another interface of that name, or has been given a new one.
            is_as_left = link is not None and link.mac == GATEWAY_MAC
            if is_as_left and links.give_back(name, former.mac, is_up=former.is_up):
                state = "up" if former.is_up else "down"
                yield f"attachment of interface {name} (again {former.mac.hex(':')}, {state})"


def _remove_from_kernel(config: AgentConfig) -> Iterator[str]:
    # Interfaces first: they take their filters along. An interface that is another's keeps all but
    # our filters.
    with Links() as links:
        if Mesh(config.mesh_interface, config.private_key).remove():
            yield f"interface {config.mesh_interface}"
        for link in links.owned():
            if links.remove(link.name):
                yield f"interface {link.name}"
    yield from (f"filters of interface {name}" for name in Datapath.detach_all())
    yield from (f"pin {path}" for path in Datapath.remove(config.bpffs))


def _remove_state(config: AgentConfig) -> Iterator[str]:
    for path in (config.private_key, *sorted(config.state_dir.glob("replica.db*")), config.socket):
        if path.exists():
            path.unlink()
            yield f"file {path}"
    config.lock.unlink()
    if not any(config.state_dir.iterdir()):
        shutil.rmtree(config.state_dir)
        yield f"directory {config.state_dir}"
