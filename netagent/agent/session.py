"""One Sync stream from the agent's side, without I/O: what to say, and what was said.

Feed it every response in order; it returns the Welcome's content, a whole batch, a question as it
came, or nothing while a batch is not complete.
Source: proto/netagent/api/control/v1/sync_service.proto, steps 1 to 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from netagent.agent.facts import OwnHost
from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.api.convert import fleet_from_message, host_from_message
from netagent.api.convert_policy_reading import policies_from_messages
from netagent.api.convert_sync import locations_from_message, transitions_from_message
from netagent.model.errors import InvalidError
from netagent.model.fleet import Host
from netagent.reconcile.batch import Batch, LocationChange, NamedLocation, TransitionChange

PROTOCOL_VERSION = 1

AGENT_VERSION = version("netagent")


@dataclass(frozen=True, slots=True)
class Welcomed:
    """Control has taken the stream. is_snapshot: the first batch will hold everything."""

    own: OwnHost
    is_snapshot: bool


@dataclass(frozen=True, slots=True)
class Malformed:
    """A batch was complete and cannot be meant; the stream goes on."""

    revision: int
    reason: str


class SyncSession:
    """The state of one stream."""

    def __init__(self) -> None:
        self._own: OwnHost | None = None
        self._is_snapshot = False
        self._parts: list[pb.Update] = []

    def hello(
        self,
        host: str,
        fleet_id: str,
        revision: int,
        networks: Sequence[int],
        policies: Mapping[int, bytes],
    ) -> pb.SyncRequest:
        """Return the first message.

        revision: the newest applied; 0 when nothing is held. policies: network number to content.
        """
        hello = pb.Hello(
            host=host,
            agent_version=AGENT_VERSION,
            protocol_version=PROTOCOL_VERSION,
            fleet_id=fleet_id,
            revision=revision,
            networks=sorted(networks),
            policies=[
                pb.HeldPolicy(network=network, content=content)
                for network, content in sorted(policies.items())
            ],
            reports_moves=True,
        )
        return pb.SyncRequest(hello=hello)

    def receive(
        self, response: pb.SyncResponse
    ) -> Welcomed | Batch | Malformed | pb.Question | None:
        """Take one response. Raises InvalidError when the stream itself makes no sense."""
        if response.WhichOneof("message") == "welcome":
            return self._receive_welcome(response.welcome)
        if self._own is None:
            raise InvalidError("sync.welcome", "did not come first")
        if response.WhichOneof("message") == "question":
            return response.question
        self._parts.append(response.update)
        if not response.update.revision:
            return None
        parts, self._parts = self._parts, []
        try:
            return read_batch(self._own, parts, is_snapshot=self._is_snapshot)
        except InvalidError as error:
            return Malformed(response.update.revision, str(error))

    def accept(self, revision: int) -> pb.SyncRequest:
        """Return the message that the kernel holds the batch; the snapshot has been taken now."""
        self._is_snapshot = False
        return pb.SyncRequest(applied=pb.Applied(revision=revision))

    def reject(self, revision: int, reason: str) -> pb.SyncRequest:
        """Return the message that the batch was not taken; a snapshot is still due after it."""
        return pb.SyncRequest(rejected=pb.Rejected(revision=revision, reason=reason))

    def _receive_welcome(self, welcome: pb.Welcome) -> Welcomed:
        if self._own is not None:
            raise InvalidError("sync.welcome", "came twice")
        fleet = fleet_from_message(welcome.fleet)
        self._own = OwnHost(fleet, host_from_message(fleet, welcome.host))
        self._is_snapshot = welcome.snapshot
        return Welcomed(self._own, welcome.snapshot)


def read_batch(own: OwnHost, parts: Sequence[pb.Update], *, is_snapshot: bool) -> Batch:
    """Return the batch that the parts, the last with its revision, make up; else InvalidError."""
    hosts: dict[str, Host] = {}
    removed_hosts: dict[str, None] = {}
    for part in parts:
        for name in part.removed_hosts:
            hosts.pop(name, None)
            removed_hosts[name] = None
        for message in part.hosts:
            host = host_from_message(own.fleet, message)
            removed_hosts.pop(host.name, None)
            hosts[host.name] = host
    return Batch(
        revision=parts[-1].revision,
        is_snapshot=is_snapshot,
        hosts=tuple(hosts.values()),
        removed_hosts=tuple(removed_hosts),
        locations=tuple(_location_change(t) for part in parts for t in part.locations),
        transitions=tuple(_transition_change(t) for part in parts for t in part.transitions),
        dropped_networks=tuple(n for part in parts for n in part.dropped_networks),
        policies=tuple(policies_from_messages(t for part in parts for t in part.policies)),
        dropped_policies=tuple(n for part in parts for n in part.dropped_policies),
    )


def _location_change(message: pb.LocationTable) -> LocationChange:
    table = locations_from_message(message)
    return LocationChange(
        network=table.network,
        network_name=table.network_name,
        is_whole=table.whole,
        rows={
            stable_id: NamedLocation(name, location, holder)
            for stable_id, location, name, holder in table.rows
        },
        removed=dict(table.removed),
    )


def _transition_change(message: pb.TransitionTable) -> TransitionChange:
    table = transitions_from_message(message)
    return TransitionChange(
        network=table.network,
        is_whole=table.whole,
        rows=dict(table.rows),
        removed=dict(table.removed),
    )
