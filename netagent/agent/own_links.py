"""The links that every host has: the mesh with its peers, the interface of the host's own stack.

Machines' interfaces are not among them: interfaces.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from netagent.agent.config import AgentConfig
from netagent.agent.facts import OwnHost, describe_silence, inner_mtu
from netagent.agent.kernel import Kernel
from netagent.dataplane.abi import Constants
from netagent.dataplane.datapath import Attachment
from netagent.model.addresses import stable_address
from netagent.model.errors import DataplaneError
from netagent.model.fleet import Host
from netagent.reconcile.handshakes import Handshakes
from netagent.reconcile.operations import EndpointBinding


class OwnLinks:
    """Makes the links that every host has, and knows which peers answer.

    wireguard: which implementation carries the mesh. mtu_bytes: of the overlay; both are known
    once the mesh has been ensured. names: of the interfaces; any thread may read them.
    """

    def __init__(self, config: AgentConfig, kernel: Kernel) -> None:
        self._config = config
        self._kernel = kernel
        self._handshakes = Handshakes()
        self.wireguard = ""
        self.mtu_bytes = config.mtu_bytes or 0
        host = config.host_interface
        self.names = frozenset((config.mesh_interface, host, f"{host}-gw"))

    def ensure_mesh(self, own: OwnHost) -> bool:
        """Make the WireGuard interface, load the programs and attach the mesh's.

        Returns whether the interface had to be made. DataplaneError when the kernel refuses.
        """
        kernel = self._kernel
        if not self.mtu_bytes:
            self.mtu_bytes = inner_mtu(kernel.links.underlay_mtu(self._config.endpoint.address))
        before = kernel.mesh.ifindex()
        self.wireguard = kernel.mesh.ensure(self._config.endpoint.port, self.mtu_bytes)
        ifindex = kernel.mesh.ifindex()
        if ifindex is None:
            raise DataplaneError(
                "bring up", f"interface {self._config.mesh_interface}", "it vanished at once"
            )
        kernel.writes += ifindex != before
        kernel.datapath.load(
            Constants(own.fleet, own.host.locator, own.host.stable_id, self.mtu_bytes, ifindex)
        )
        kernel.writes += kernel.datapath.attach(ifindex, Attachment.MESH)
        return ifindex != before

    def ensure_host_interface(self, own: OwnHost) -> EndpointBinding:
        """Make the interface of the host's own stack, and return what its endpoint row says."""
        kernel, name = self._kernel, self._config.host_interface
        address = stable_address(own.fleet, own.host.stable_id)
        kernel.writes += kernel.links.find(name) is None
        host_side, gateway_side = kernel.links.ensure_host_interface(
            name, address, own.fleet.prefix, self.mtu_bytes
        )
        kernel.writes += kernel.datapath.attach(gateway_side.ifindex, Attachment.HOST)
        return EndpointBinding(gateway_side.ifindex, host_side.mac, is_peer=False)

    def ensure_peers(self, hosts: Collection[Host], *, is_new: bool, is_whole: bool) -> None:
        """Have the other hosts as peers, and no others.

        is_new: whether the interface has just been made. is_whole: whether these are all hosts that
        there are; before that, a peer that only the kernel knows must not be lost.
        """
        known = {host.public_key for host in hosts}
        if (
            is_new
            or is_whole
            or all(peer.public_key in known for peer in self._kernel.mesh.observe())
        ):
            self._kernel.ensure_peers(hosts, is_new=is_new)

    def find_silent_peers(self, hosts: Iterable[Host], now_s: float) -> dict[str, str]:
        """Return the hosts that WireGuard cannot reach, with a sentence for people."""
        last = {peer.public_key: peer.last_handshake_s for peer in self._kernel.mesh.observe()}
        names = {host.public_key: host for host in hosts}
        silent = self._handshakes.find_silent(last, now_s)
        return {
            names[key].name: describe_silence(names[key], last[key])
            for key in silent
            if key in names
        }

    def mesh_ifindex(self) -> int | None:
        """Return the WireGuard interface's index; None while there is none."""
        return self._kernel.mesh.ifindex()
