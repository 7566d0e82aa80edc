"""The replica: what the agent holds, in a SQLite file that any program on the host may read.

Written after the kernel holds it, so it is never ahead of the data path; an agent that restarts
begins with it. Holds no secret. One thread at a time.
"""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, IPv6Network, ip_address
from pathlib import Path

from netagent.agent.attached import AttachedMachine, FormerLink
from netagent.agent.facts import OwnHost
from netagent.agent.replica_policies import read_policies, write_policies
from netagent.agent.replica_schema import (
    HANDED_INTERFACES,
    HOLDER,
    MOVE_TRIGGER,
    POLICIES,
    SCHEMA,
    SCHEMA_VERSION,
    TAKEN_MACHINES,
    VIEWS,
)
from netagent.model.addresses import (
    GATEWAY_MAC,
    Fleet,
    Locator,
    StableId,
    locator_network,
    network_of,
    parse_stable_address,
    stable_address,
)
from netagent.model.errors import ConfigError
from netagent.model.fleet import Endpoint, Host, Identity, Location, MoveTrigger, Transition
from netagent.reconcile.batch import NamedLocation
from netagent.reconcile.moving import Taking
from netagent.reconcile.view import Delta, View


@dataclass(frozen=True, slots=True)
class Held:
    """All that a replica holds.

    own: None before the first contact with control. taken: as Engine has it.
    """

    own: OwnHost | None
    view: View
    attached: dict[StableId, AttachedMachine]
    taken: dict[StableId, Taking] = field(default_factory=dict)


class Replica:
    """The open file; `read` once at the start, then write."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; ConfigError when it is of a newer release or no replica."""
        self._path = path
        path.touch()
        path.chmod(0o644)  # SQLite gives the files beside it the same mode
        try:
            self._database = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=5.0
            )
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"state_dir: {path} cannot be used: {error}; move it away to begin anew"
            ) from error

    def _prepare(self) -> None:
        database = self._database
        database.execute("PRAGMA journal_mode = WAL")
        # NORMAL would lose what was last attached to a power cut, and nobody tells us again.
        database.execute("PRAGMA synchronous = FULL")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise ConfigError(
                f"state_dir: {self._path} has schema {version} of a newer release; this one knows"
                f" {SCHEMA_VERSION}; run that release, or move the file away"
            )
        if version == 0:
            database.executescript(
                f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        database.execute(HANDED_INTERFACES)
        database.executescript(f"BEGIN; {POLICIES} {TAKEN_MACHINES} COMMIT;")
        if "waits_for" not in self._columns("transitions"):
            database.execute(MOVE_TRIGGER)
        if "holder" not in self._columns("locations"):
            # The release before did not keep who holds floating addresses: control says all again.
            forget = "DELETE FROM meta WHERE key = 'revision'"
            database.executescript(f"BEGIN; {HOLDER}; {forget}; COMMIT;")
        database.executescript(f"BEGIN; {VIEWS} COMMIT;")

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self._database.execute(f"PRAGMA table_info({table})")}

    def read(self) -> Held:
        """Return everything held; a view of revision 0 when nothing was written yet."""
        meta = dict(self._database.execute("SELECT key, value FROM meta"))
        view = View()
        if "fleet_id" not in meta:
            return Held(None, view, {})
        fleet = Fleet(meta["fleet_id"], IPv6Network(meta["prefix"]), int(meta["locator_top"]))
        own = OwnHost(
            fleet,
            Host(
                name=meta["host"],
                region=int(meta["region"]),
                number=int(meta["number"]),
                public_key=base64.b64decode(meta["public_key"]),
                endpoint=_endpoint(meta["endpoint_address"], int(meta["endpoint_port"])),
                stable_id=_id(fleet, meta["address"]),
                locator=_locator(meta["locator"]),
            ),
        )
        view.apply(self._read_delta(fleet, int(meta.get("revision", "0"))))
        taken = {
            _id(fleet, address): Taking(host, epoch)
            for address, host, epoch in self._database.execute("SELECT * FROM taken_machines")
        }
        return Held(own, view, self._read_attached(fleet), taken)

    def write_own(self, own: OwnHost) -> None:
        """Record the fleet, and who this host is in it."""
        host = own.host
        rows = {
            "fleet_id": own.fleet.fleet_id,
            "prefix": str(own.fleet.prefix),
            "locator_top": str(own.fleet.locator_top),
            "host": host.name,
            "region": str(host.region),
            "number": str(host.number),
            "address": str(stable_address(own.fleet, host.stable_id)),
            "locator": str(locator_network(host.locator)),
            "endpoint_address": str(host.endpoint.address),
            "endpoint_port": str(host.endpoint.port),
            "public_key": base64.b64encode(host.public_key).decode(),
        }
        with _transaction(self._database):
            self._database.executemany("REPLACE INTO meta VALUES (?, ?)", rows.items())

    def write_delta(self, fleet: Fleet, delta: Delta, detached: Iterable[StableId] = ()) -> None:
        """Record one delta, and the attachments that went with it, as a whole."""
        with _transaction(self._database):
            self._write_hosts(fleet, delta)
            self._write_networks(delta)
            self._write_rows(fleet, delta)
            write_policies(self._database, delta)
            self._delete("attachments", fleet, detached)
            self._database.execute(
                "REPLACE INTO meta VALUES ('revision', ?)", (str(delta.revision),)
            )

    def write_taken(self, fleet: Fleet, taken: Mapping[StableId, Taking]) -> None:
        """Record which machines were taken away."""
        with _transaction(self._database):
            self._database.execute("DELETE FROM taken_machines")
            self._database.executemany(
                "INSERT INTO taken_machines VALUES (?, ?, ?)",
                (
                    (str(stable_address(fleet, stable_id)), taking.host, taking.epoch)
                    for stable_id, taking in taken.items()
                ),
            )

    def write_attached(self, fleet: Fleet, machine: AttachedMachine) -> AttachedMachine:
        """Record one attachment, and return it as recorded.

        An interface that still has the gateway's MAC was attached before and not given back: what
        it was before that stays on record.
        """
        row = (
            str(stable_address(fleet, machine.stable_id)),
            machine.machine,
            machine.interface,
            machine.mac.hex(":"),
            str(machine.netns) if machine.netns else None,
        )
        with _transaction(self._database):
            self._database.execute("REPLACE INTO attachments VALUES (?, ?, ?, ?, ?)", row)
            if (former := machine.former) is not None:
                self._database.execute(
                    "INSERT INTO handed_interfaces VALUES (?, ?, ?) ON CONFLICT (interface)"
                    " DO UPDATE SET mac = excluded.mac, was_up = excluded.was_up"
                    " WHERE excluded.mac != ?",
                    (machine.interface, former.mac.hex(":"), former.is_up, GATEWAY_MAC.hex(":")),
                )
        if former is None:
            return machine
        return replace(machine, former=self.read_handed()[machine.interface])

    def delete_attached(self, fleet: Fleet, stable_id: StableId) -> None:
        """Forget one attachment whose interface has been given back."""
        address = str(stable_address(fleet, stable_id))
        with _transaction(self._database):
            self._database.execute(
                "DELETE FROM handed_interfaces WHERE interface IN"
                " (SELECT interface FROM attachments WHERE address = ?)",
                (address,),
            )
            self._delete("attachments", fleet, (stable_id,))
            self._delete("taken_machines", fleet, (stable_id,))

    def read_handed(self) -> dict[str, FormerLink]:
        """Return what every interface was that others made and that was not given back."""
        return read_handed(self._database)

    def close(self) -> None:
        """Close the file in a form that needs nothing beside it to be read."""
        with suppress(sqlite3.OperationalError):  # a reader is at it: the log stays beside the file
            self._database.execute("PRAGMA journal_mode = DELETE")
        self._database.close()

    def _read_delta(self, fleet: Fleet, revision: int) -> Delta:
        select = self._database.execute
        delta = Delta(revision)
        for name, region, number, address, locator, *endpoint, key in select("SELECT * FROM hosts"):
            delta.hosts[name] = Host(
                name,
                region,
                number,
                base64.b64decode(key),
                _endpoint(*endpoint),
                _id(fleet, address),
                _locator(locator),
            )
        delta.networks.update(select("SELECT number, name FROM networks"))
        for address, name, locator, identity, epoch, holder in select(
            "SELECT address, machine, locator, identity, epoch, holder FROM locations"
        ):
            location = Location(_locator(locator), Identity(identity), epoch)
            holder_id = _id(fleet, holder) if holder is not None else None
            delta.locations[_id(fleet, address)] = NamedLocation(name, location, holder_id)
        for address, source, destination, epoch, trigger in select(
            "SELECT address, source, destination, epoch, waits_for FROM transitions"
        ):
            places = _locator(source), _locator(destination)
            transition = Transition(*places, epoch, MoveTrigger(trigger))
            delta.transitions[_id(fleet, address)] = transition
        delta.policies.update(read_policies(self._database))
        return delta

    def _read_attached(self, fleet: Fleet) -> dict[StableId, AttachedMachine]:
        attached = {}
        handed = self.read_handed()
        for address, machine, interface, mac, netns in self._database.execute(
            "SELECT address, machine, interface, mac, netns FROM attachments"
        ):
            stable_id = _id(fleet, address)
            attached[stable_id] = AttachedMachine(
                stable_id,
                machine,
                interface,
                bytes.fromhex(mac.replace(":", "")),
                Path(netns) if netns else None,
                None if netns else handed.get(interface),
            )
        return attached

    def _write_hosts(self, fleet: Fleet, delta: Delta) -> None:
        gone = [(name,) for name in (*delta.removed_hosts, *delta.hosts)]
        self._database.executemany("DELETE FROM hosts WHERE name = ?", gone)
        self._database.executemany(
            "INSERT INTO hosts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    host.name,
                    host.region,
                    host.number,
                    str(stable_address(fleet, host.stable_id)),
                    str(locator_network(host.locator)),
                    str(host.endpoint.address),
                    host.endpoint.port,
                    base64.b64encode(host.public_key).decode(),
                )
                for host in delta.hosts.values()
            ),
        )

    def _write_networks(self, delta: Delta) -> None:
        dropped = [(number,) for number in delta.dropped_networks]
        self._database.executemany("DELETE FROM locations WHERE network = ?", dropped)
        self._database.executemany("DELETE FROM transitions WHERE network = ?", dropped)
        self._database.executemany("DELETE FROM networks WHERE number = ?", dropped)
        self._database.executemany("REPLACE INTO networks VALUES (?, ?)", delta.networks.items())

    def _write_rows(self, fleet: Fleet, delta: Delta) -> None:
        self._delete("locations", fleet, delta.removed_locations)
        self._delete("transitions", fleet, delta.removed_transitions)
        self._database.executemany(
            "REPLACE INTO locations (address, network, machine, locator, identity, epoch, holder)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    str(stable_address(fleet, stable_id)),
                    network_of(stable_id),
                    row.name,
                    str(locator_network(row.location.locator)),
                    row.location.identity,
                    row.epoch,
                    str(stable_address(fleet, row.holder)) if row.holder is not None else None,
                )
                for stable_id, row in delta.locations.items()
            ),
        )
        self._database.executemany(
            "REPLACE INTO transitions (address, network, source, destination, epoch, waits_for)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                (
                    str(stable_address(fleet, stable_id)),
                    network_of(stable_id),
                    str(locator_network(row.source)),
                    str(locator_network(row.destination)),
                    row.epoch,
                    row.trigger.value,
                )
                for stable_id, row in delta.transitions.items()
            ),
        )

    def _delete(self, table: str, fleet: Fleet, ids: Iterable[StableId]) -> None:
        self._database.executemany(
            f"DELETE FROM {table} WHERE address = ?",  # noqa: S608  names of our own
            ((str(stable_address(fleet, stable_id)),) for stable_id in ids),
        )


def read_handed(database: sqlite3.Connection) -> dict[str, FormerLink]:
    """Return the interfaces that others made and that were not given back: what they were."""
    rows = database.execute("SELECT interface, mac, was_up FROM handed_interfaces")
    return {
        interface: FormerLink(bytes.fromhex(mac.replace(":", "")), bool(was_up))
        for interface, mac, was_up in rows
    }


def read_handed_of_stopped(path: Path) -> dict[str, FormerLink]:
    """As read_handed, of the file that a stopped agent left; empty when it cannot tell."""
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path)) as database:
        try:
            return read_handed(database)
        except sqlite3.DatabaseError:
            return {}


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _id(fleet: Fleet, address: str) -> StableId:
    return parse_stable_address(fleet, IPv6Address(address))


def _locator(text: str) -> Locator:
    return Locator(int(IPv6Network(text).network_address) >> 64)


def _endpoint(address: str, port: int) -> Endpoint:
    return Endpoint(ip_address(address), port)
