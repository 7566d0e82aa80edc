"""Where each record lives in the store.

    fleet                          what addresses are made from
    host/NAME                      a host
    host-key/HEX                   -> name of the host with this public key
    host-endpoint/ADDRESS:PORT     -> name of the host that listens there
    network/NAME                   a network
    machine/NETWORK/NAME           a machine, with the move it is on
    id/HEX                         -> NETWORK/NAME of the machine or floating address with this id
    address/NETWORK/NAME           a floating address, with the machine that holds it
    at/HOST/NETWORK/NAME           the machine is located on the host, or moves from or to it
    identity/NETWORK NUMBER/LABELS -> identity; of LABELS and a name where a policy names a machine
    policy/NETWORK                 -> version of the policy in force
    policy-version/NETWORK NUMBER/VERSION
                                   one version of a policy
    move/ID                        a move; ids sort by time
    cursor/SCOPE                   the next number to try in a scope of numbers

Names hold no slash, so a prefix with its slash never reaches into another name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from netagent.model.addresses import StableId
from netagent.model.fleet import Endpoint

ROOT = b"netagent/v1/"
"""Everything of ours begins with this, so that an etcd can be shared."""

FLEET = ROOT + b"fleet"
CURSOR_NETWORK = ROOT + b"cursor/network"
CURSOR_IDENTITY = ROOT + b"cursor/identity"


def host_key(name: str) -> bytes:
    """Return the key of a host."""
    return ROOT + f"host/{name}".encode()


def host_public_key_key(public_key: bytes) -> bytes:
    """Return the key that makes a public key unique."""
    return ROOT + f"host-key/{public_key.hex()}".encode()


def host_endpoint_key(endpoint: Endpoint) -> bytes:
    """Return the key that makes an endpoint unique."""
    return ROOT + f"host-endpoint/{endpoint}".encode()


def network_key(name: str) -> bytes:
    """Return the key of a network."""
    return ROOT + f"network/{name}".encode()


def machine_key(path: str) -> bytes:
    """Return the key of a machine. path: NETWORK/NAME."""
    return ROOT + f"machine/{path}".encode()


def machines_prefix(network: str) -> bytes:
    """Return the prefix of all machines of a network."""
    return ROOT + f"machine/{network}/".encode()


def address_key(path: str) -> bytes:
    """Return the key of a floating address. path: NETWORK/NAME."""
    return ROOT + f"address/{path}".encode()


def addresses_prefix(network: str) -> bytes:
    """Return the prefix of all floating addresses of a network."""
    return ROOT + f"address/{network}/".encode()


def id_key(stable_id: StableId) -> bytes:
    """Return the key that makes an id unique."""
    return ROOT + f"id/{stable_id:016x}".encode()


def at_key(host: str, machine: str) -> bytes:
    """Return the key that ties a machine (NETWORK/NAME) to a host."""
    return ROOT + f"at/{host}/{machine}".encode()


def at_prefix(host: str) -> bytes:
    """Return the prefix of all machines tied to a host."""
    return ROOT + f"at/{host}/".encode()


def identities_prefix(network: int) -> bytes:
    """Return the prefix of all identities of a network number."""
    return ROOT + f"identity/{network:08x}/".encode()


def identity_key(network: int, labels: Mapping[str, str], name: str | None = None) -> bytes:
    """Return the key of the identity of a label set in a network.

    name: of the one machine whose identity it is, when policies name it.
    """
    content = sorted(labels.items()) if name is None else [name, sorted(labels.items())]
    text = json.dumps(content, separators=(",", ":"))
    return identities_prefix(network) + hashlib.sha256(text.encode()).hexdigest().encode()


def policy_key(network: str) -> bytes:
    """Return the key of the version in force of a network's policy."""
    return ROOT + f"policy/{network}".encode()


def policy_version_key(network: int, version: int) -> bytes:
    """Return the key of one version of a policy; keys sort by version. network: its number."""
    return policy_versions_prefix(network) + f"{version:010d}".encode()


def policy_versions_prefix(network: int) -> bytes:
    """Return the prefix of all versions of the policy of a network number."""
    return ROOT + f"policy-version/{network:08x}/".encode()


def move_key(move_id: str) -> bytes:
    """Return the key of a move."""
    return ROOT + f"move/{move_id}".encode()


def cursor_host_key(region: int) -> bytes:
    """Return the key of the cursor of host numbers of a region."""
    return ROOT + f"cursor/host/{region}".encode()


def cursor_machine_key(network: int, region: int) -> bytes:
    """Return the key of the cursor of machine numbers of a network and region."""
    return cursors_machine_prefix(network) + str(region).encode()


def cursors_machine_prefix(network: int) -> bytes:
    """Return the prefix of the cursors of machine numbers of a network."""
    return ROOT + f"cursor/machine/{network:08x}/".encode()
