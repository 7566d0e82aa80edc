"""What control has, as the commands on policies need it: the fleet, and the policies in force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network

from netagent.api.control.v1 import host_service_pb2 as host_pb
from netagent.api.control.v1 import machine_service_pb2 as machine_pb
from netagent.api.control.v1 import network_service_pb2 as network_pb
from netagent.api.control.v1 import policy_service_pb2 as policy_pb
from netagent.api.control.v1.host_service_pb2_grpc import HostServiceStub
from netagent.api.control.v1.machine_service_pb2_grpc import MachineServiceStub
from netagent.api.control.v1.network_service_pb2_grpc import NetworkServiceStub
from netagent.api.control.v1.policy_service_pb2_grpc import PolicyServiceStub
from netagent.api.types.v1 import types_pb2
from netagent.cli.channel import control_stub, read_pages, timeout_s
from netagent.cli.failures import ExitCode, Failure
from netagent.cli.options import Shared
from netagent.model.addresses import StableId, network_of
from netagent.model.errors import PolicyError
from netagent.model.fleet import Identity
from netagent.policy.fleet import FleetSnapshot, Member, make_snapshot
from netagent.policy.language import Policy
from netagent.policy.nodes import nearest
from netagent.policy.reading import load_policy

_LOWER_HALF = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class InForce:
    """A fleet, the policies in force there, and their versions by network.

    Networks without a policy have the built-in one, of version 0.
    """

    fleet: FleetSnapshot
    policies: tuple[Policy, ...] = ()
    versions: Mapping[str, int] = field(default_factory=dict)

    def replaced_by(self, policies: Sequence[Policy]) -> tuple[Policy, ...]:
        """Return these policies, and of those in force the ones of other networks."""
        given = {one.network for one in policies}
        return (*policies, *(one for one in self.policies if one.network not in given))


def read_in_force(options: Shared) -> InForce:
    """Return what control has now; Failure for every way in which that fails."""
    fleet = _snapshot(options)
    policies: list[Policy] = []
    versions: dict[str, int] = {}
    with control_stub(options, PolicyServiceStub) as stub:
        for network in _list_policies(stub, timeout_s(options)):
            request = policy_pb.GetPolicyRequest(network=network)
            found = stub.GetPolicy(request, timeout=timeout_s(options)).policy
            versions[network] = found.version
            if found.text:
                policies.append(_load(found))
    return InForce(fleet, tuple(policies), versions)


def read_prefix(options: Shared) -> IPv6Network | None:
    """Return the fleet's prefix; None while there is neither host nor machine to read it from."""
    limit_s = timeout_s(options)
    with control_stub(options, HostServiceStub) as stub:
        hosts = stub.ListHosts(host_pb.ListHostsRequest(page_size=1), timeout=limit_s).hosts
    with control_stub(options, MachineServiceStub) as stub:
        one = machine_pb.ListMachinesRequest(page_size=1)
        machines = () if hosts else stub.ListMachines(one, timeout=limit_s).machines
    # Every stable address, a host's or a machine's, begins with the fleet's /64.
    addresses = [each.address for each in (*hosts, *machines)]
    return IPv6Network((addresses[0], 64), strict=False) if addresses else None


def read_networks(options: Shared) -> list[types_pb2.Network]:
    """Return all networks by name."""
    with control_stub(options, NetworkServiceStub) as stub:
        pages = read_pages(
            lambda token: stub.ListNetworks(
                network_pb.ListNetworksRequest(page_token=token), timeout=timeout_s(options)
            )
        )
        return [each for page in pages for each in page.networks]


def read_machines(options: Shared) -> list[types_pb2.Machine]:
    """Return all machines by network and name."""
    with control_stub(options, MachineServiceStub) as stub:
        pages = read_pages(
            lambda token: stub.ListMachines(
                machine_pb.ListMachinesRequest(page_token=token), timeout=timeout_s(options)
            )
        )
        return [each for page in pages for each in page.machines]


@contextmanager
def naming_networks(options: Shared, network: str) -> Iterator[None]:
    """Add to a failure about a network that is not there which ones are."""
    try:
        yield
    except Failure as error:
        if error.exit_code != ExitCode.NOT_FOUND:
            raise
        names = [each.name for each in read_networks(options)]
        hint = "" if network in names else nearest(network, names)
        if not hint:
            raise
        raise Failure(f"{error.message}; {hint}", ExitCode.NOT_FOUND) from error


@contextmanager
def naming_machines(options: Shared, *machines: str) -> Iterator[None]:
    """Add to a failure about a machine that is not there which one may be meant."""
    try:
        yield
    except Failure as error:
        if error.exit_code != ExitCode.NOT_FOUND:
            raise
        found = read_machines(options)
        known = {*(f"{one.network}/{one.name}" for one in found), *(one.name for one in found)}
        hints = [nearest(one, known) for one in machines if one in error.message]
        hint = next((each for each in hints if each), "")
        if not hint:
            raise
        raise Failure(f"{error.message}; {hint}", ExitCode.NOT_FOUND) from error


def _snapshot(options: Shared) -> FleetSnapshot:
    prefix = read_prefix(options)
    networks = {each.name: each.number for each in read_networks(options)}
    members = []
    for machine in read_machines(options):
        # A network may have been made between the two lists; its machine brings it along.
        number = network_of(StableId(int(IPv6Address(machine.address)) & _LOWER_HALF))
        networks.setdefault(machine.network, number)
        identity, labels = Identity(machine.identity), dict(sorted(machine.labels.items()))
        members.append(Member(machine.network, machine.name, identity, labels))
    return make_snapshot(prefix, networks, members)


def _list_policies(stub: PolicyServiceStub, limit_s: float) -> list[str]:
    pages = read_pages(
        lambda token: stub.ListPolicies(
            policy_pb.ListPoliciesRequest(page_token=token), timeout=limit_s
        )
    )
    return [each.network for page in pages for each in page.policies]


def _load(found: policy_pb.Policy) -> Policy:
    try:
        return load_policy(found.text, f"{found.network} version {found.version}")
    except PolicyError as error:
        problem = "control has a policy that this release cannot read"
        raise Failure(f"{problem}\n{error}") from error
