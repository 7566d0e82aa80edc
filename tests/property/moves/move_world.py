"""A fleet of three hosts for random moves, with the invariants that always hold."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Network

from move_agent import Agent, Crashed, Said
from move_control import Control
from move_store import Store

from netagent.agent.facts import OwnHost
from netagent.api.control.v1 import sync_service_pb2 as pb
from netagent.control import keys
from netagent.control.address_plans import locate
from netagent.control.move_begin import Wish
from netagent.control.records import (
    MachineRecord,
    encode_address,
    encode_host,
    encode_machine,
    encode_network,
    encode_number,
    make_host,
)
from netagent.control.writer import Plan
from netagent.model.addresses import Fleet, StableId, make_id
from netagent.model.fleet import (
    ENDED_PHASES,
    Endpoint,
    FloatingAddress,
    Identity,
    Machine,
    MovePhase,
    MoveTrigger,
    Network,
)
from netagent.moves.reports import Alive
from netagent.store.contract import Operation, Put

FLEET = Fleet("f1", IPv6Network("fd12:3456:789a::/64"))
NAMES = ("a", "b", "c")
BLUE = Network("blue", 1)
WEB = make_id(1, 1, 1)
VIP = make_id(1, 1, 5)


class World:
    """Everything. The methods below, up to `check`, are what can happen, at any time."""

    def __init__(self, anchored: set[str]) -> None:
        """anchored: hosts with another machine of the network, so that they always need it."""
        self.store = Store()
        self.agents: dict[str, Agent] = {}
        self.owners: dict[int, str] = {1: "a"}
        self.newest: dict[tuple[str, StableId], int] = {}
        self.epoch = 1
        self.forced: set[int] = set()
        self.called: set[str] = set()
        self.said: list[Said] = []
        self.late: list[Plan] = []
        self.moves = 0
        self.is_deleted = False
        puts: list[Operation] = [Put(keys.network_key("blue"), encode_network(BLUE))]
        self.records = {
            name: make_host(
                FLEET, name, 1, n, bytes([n] * 32), Endpoint(IPv4Address(f"192.0.2.{n}"), 1)
            )
            for n, name in enumerate(NAMES, 1)
        }
        for name, host in self.records.items():
            puts.append(Put(keys.host_key(name), encode_host(host)))
        machines = [("web", WEB, "a")]
        machines += [(f"at-{h}", make_id(1, 1, 9 + NAMES.index(h)), h) for h in sorted(anchored)]
        for name, stable_id, host_name in machines:
            machine = Machine("blue", name, stable_id, Identity(9), {}, host_name, 1)
            puts += [
                Put(keys.machine_key(machine.path), encode_machine(MachineRecord(machine, None))),
                Put(keys.id_key(stable_id), machine.path.encode()),
                Put(keys.at_key(host_name, machine.path), encode_number(BLUE.number)),
            ]
        # Without a host, so that the identity is in use whatever is deleted.
        unplaced = Machine("blue", "unplaced", make_id(1, 1, 8), Identity(9), {})
        record = encode_machine(MachineRecord(unplaced, None))
        puts.append(Put(keys.machine_key(unplaced.path), record))
        vip = FloatingAddress("blue", "vip", VIP, "web", 1)
        puts.append(Put(keys.address_key(vip.path), encode_address(vip)))
        puts.append(Put(keys.id_key(VIP), vip.path.encode()))
        self.store.transact((), puts)
        self.control = Control(self.store, FLEET, 0.0)
        for name, host in self.records.items():
            self.agents[name] = Agent(OwnHost(FLEET, host), self.check_kernels)
            self._connect(name)

    # What people do

    def begin(self, destination: str, nth: int) -> None:
        trigger, is_forced = list(MoveTrigger)[nth % 3], nth % 5 == 0
        self.moves += 1
        wish = Wish(
            "blue/web",
            destination,
            trigger=trigger,
            ready_bound_s=20,
            is_forced=is_forced,
            is_source_dead=is_forced,
        )
        move_id = f"{self.moves:04d}"
        if self.control.begin(move_id, wish):
            move = self.control.view.moves[move_id].value.move
            assert move.epoch not in self.owners, "an epoch was used twice"
            self.owners[move.epoch] = destination
            if is_forced:
                self.forced.add(move.epoch)

    def call(self, host: str, nth: int) -> None:
        for move_id in self.control.view.active_moves():
            self.called.add(move_id)
            self.control.call(move_id)

    def abort(self, host: str, nth: int) -> None:
        for move_id in self.control.view.active_moves():
            self.control.abort(move_id)

    def address_fails_over(self, host: str, nth: int) -> None:
        """To the other machine on a host, where there is one; else back to the one that moves."""
        other = f"blue/at-{host}"
        self.control.assign("blue/vip", other if other in self.control.view.machines else "web")

    def address_comes_back(self, host: str, nth: int) -> None:
        self.control.assign("blue/vip", "web")

    def address_is_released(self, host: str, nth: int) -> None:
        self.control.release("blue/vip")

    def machine_shows_life(self, host: str, nth: int) -> None:
        agent, link = self.agents[host], self.control.links.get(host)
        agent.show_life()
        if link is not None:
            reports = agent.reports()
            link.up.extend(reports)
            self.said += reports

    def attach(self, host: str, nth: int) -> None:
        """Somebody attaches it, wherever it belongs."""
        self.agents[host].attach(WEB)

    def detach(self, host: str, nth: int) -> None:
        self.agents[host].detach(WEB)

    def delete(self, host: str, nth: int) -> None:
        """Not often, for little comes after it."""
        if nth % 10 == 0:
            self.is_deleted |= self.control.delete("blue/web")

    # What the network does

    def send(self, host: str, nth: int = 0) -> None:
        if host in self.control.links:
            self.control.send(host)

    def deliver_batch(self, host: str, nth: int = 0) -> None:
        link = self.control.links.get(host)
        if link is None or not link.down:
            return
        parts, agent = link.down.popleft(), self.agents[host]
        batch = agent.read(parts, is_snapshot=link.is_snapshot)
        if agent.rejects_next:
            agent.rejects_next = False
            rejected = pb.Rejected(revision=batch.revision, reason="full")
            link.up.append(pb.SyncRequest(rejected=rejected))
            return
        try:
            reports = agent.take(batch)
        except Crashed:
            self._kill_agent(host)
            return
        link.is_snapshot = False
        link.up.append(pb.SyncRequest(applied=pb.Applied(revision=batch.revision)))
        link.up.extend(reports)
        self.said += reports

    def deliver_answer(self, host: str, nth: int = 0) -> None:
        link = self.control.links.get(host)
        if link is not None and link.up:
            self.control.receive(host, link.up.popleft())

    def deliver_an_old_batch_again(self, host: str, nth: int) -> None:
        """Not before the first of a new stream: what came before it is of a stream that is gone."""
        agent = self.agents[host]
        if agent.past and agent.is_whole and agent.crash_after is None:
            agent.take(agent.past[nth % len(agent.past)])

    def deliver_an_old_report_again(self, host: str, nth: int) -> None:
        if self.said:
            self.control.reported(self.said[nth % len(self.said)])

    def deliver_late_flows(self, host: str, nth: int) -> None:
        """Hosts carry flows here under every epoch that there was."""
        agent = self.agents[host]
        for epoch, owner in self.owners.items():
            for sender in self.agents.values():
                if agent.takes_flows(WEB, epoch, sender.own):
                    row = agent.view.location(WEB)
                    assert owner == host, "6: flows of a move to another host"
                    assert sender is not agent
                    assert epoch not in self.forced, "6: flows of a host that is dead"
                    assert row is None or row.epoch <= epoch, "6: flows of an earlier move"

    def cut(self, host: str, nth: int = 0) -> None:
        if host in self.control.links:
            self.control.disconnect(host)

    def connect(self, host: str, nth: int = 0) -> None:
        if host not in self.control.links:
            self._connect(host)

    def all_goes_well_for_a_while(self, host: str, nth: int) -> None:
        for _ in range(1 + nth % 4):
            for name in NAMES:
                if name in self.control.links:
                    self.control.send(name)
                    self.deliver_batch(name)
                    while name in self.control.links and self.control.links[name].up:
                        self.deliver_answer(name)
            self._write_all()
            self.control.pass_time(0.6)

    # What fails

    def agent_dies_in_its_next_batch(self, host: str, nth: int) -> None:
        self.agents[host].crash_after = nth % 4

    def agent_is_killed(self, host: str, nth: int = 0) -> None:
        self._kill_agent(host)

    def agent_cannot_take_its_next_batch(self, host: str, nth: int = 0) -> None:
        self.agents[host].rejects_next = True

    def control_is_killed(self, host: str, nth: int) -> None:
        placed = self.control.placed
        self.control = Control(self.store, FLEET, self.control.now)
        self.control.placed |= placed

    def write_an_action(self, host: str, nth: int) -> None:
        actions = self.control.actions
        if actions:
            self.control.write(self.control.plan(actions.pop(nth % len(actions))))

    def plan_an_action(self, host: str, nth: int) -> None:
        """Another process plans the same, and its transaction is slow."""
        actions = self.control.actions
        if actions:
            self.late.append(self.control.plan(actions[nth % len(actions)]))

    def write_a_late_plan(self, host: str, nth: int) -> None:
        if self.late:
            self.control.write(self.late.pop(nth % len(self.late)))

    def time_passes(self, host: str, nth: int) -> None:
        self.control.pass_time((0.5, 2.0, 6.0, 25.0)[nth % 4])

    # What has to hold

    def check(self) -> None:
        """Check everything; between two happenings."""
        self.check_kernels()
        for agent in self.agents.values():
            is_known = agent.view.location(WEB) is not None
            assert (WEB in agent.locations) or not is_known, "4: the machine's row was pruned"
        alive = {said.epoch for said in self.said if isinstance(said.report, Alive)}
        for move_id, stored in self.control.view.moves.items():
            move = stored.value.move
            if move.phase in (MovePhase.COMMITTED, MovePhase.SETTLED):
                is_alive = move.trigger is MoveTrigger.LIFE and move.epoch in alive
                is_meant = move_id in self.called or move.trigger is MoveTrigger.AT_ONCE
                assert is_alive or is_meant, "5: committed without its trigger"

    def check_kernels(self) -> None:
        """Check what holds after every single write."""
        if len(self.agents) < len(NAMES):
            return
        stored = self.control.view.machines.get("blue/web")
        if stored is not None:
            assert not self.is_deleted, "1: what was deleted is back"
            machine = stored.value.machine
            assert machine.host == self.owners[machine.epoch], "1: one owner an epoch"
            self.epoch = machine.epoch
        for name, agent in self.agents.items():
            self._check_rows(name, agent, self.epoch)
            self._check_floating_row(name, agent)
        for observer in self.agents.values():
            self._check_acceptance(observer, WEB)
            self._check_acceptance(observer, VIP)

    def _check_rows(self, name: str, agent: Agent, newest: int) -> None:
        row = agent.locations.get(WEB)
        if row is None:
            self.newest.pop((name, WEB), None)
            return
        assert row.epoch <= newest, "2: of an epoch that was never committed"
        self._check_newer(name, WEB, row.epoch)
        assert row.locator == self.records[self.owners[row.epoch]].locator, "1: another owner"
        moving = agent.transitions.get(WEB)
        if moving is not None:
            assert moving.epoch not in self.forced, "3: a forced move has no second place"
            assert moving.destination == self.records[self.owners[moving.epoch]].locator

    def _check_newer(self, name: str, stable_id: StableId, epoch: int) -> None:
        assert epoch >= self.newest.get((name, stable_id), 0), "2: went back to an older epoch"
        self.newest[name, stable_id] = epoch

    def _check_floating_row(self, name: str, agent: Agent) -> None:
        row = agent.locations.get(VIP)
        if row is None:
            self.newest.pop((name, VIP), None)
            return
        self._check_newer(name, VIP, row.epoch)
        assert row.locator == self.control.placed[VIP, row.epoch], "7: where no holder was"

    def _check_acceptance(self, observer: Agent, stable_id: StableId) -> None:
        speakers = [
            agent
            for agent in self.agents.values()
            if agent is not observer
            and agent.speaks(stable_id)
            and observer.accepts(stable_id, agent)
        ]
        if observer.transitions.get(stable_id) is None:
            assert len(speakers) <= 1, "3: accepted from two places without a move"
        newest = max((agent.locations[stable_id].epoch for agent in speakers), default=0)
        informed = [agent for agent in speakers if agent.locations[stable_id].epoch == newest]
        assert len(informed) <= 1, "3: two hosts speak and neither is behind"

    def end(self) -> None:
        """Let everything arrive, let time pass, and check what is left."""
        for agent in self.agents.values():
            agent.crash_after, agent.rejects_next = None, False
        # A host that has rejected a batch is told again when it comes back, or when there is news.
        for name in tuple(self.control.links):
            self.cut(name)
        while self.late:
            self.write_a_late_plan("", 0)
        for _ in range(12):
            self._settle_down()
            self.control.pass_time(25)
        self._settle_down()
        self._check_end()

    def _settle_down(self) -> None:
        """Connect all, and let everything that is under way arrive."""
        for _ in range(100):
            is_busy = False
            for name in NAMES:
                self.connect(name)
                is_busy |= self.control.send(name)
                link = self.control.links[name]
                while link.down:
                    self.deliver_batch(name)
                while link.up:
                    self.deliver_answer(name)
                    is_busy = True
            is_busy |= self._write_all()
            self.check()
            if not is_busy:
                return
        raise AssertionError("it never came to rest")

    def _write_all(self) -> bool:
        is_busy = bool(self.control.actions)
        while self.control.actions:
            self.write_an_action("", 0)
        return is_busy

    def _check_end(self) -> None:
        view = self.control.view
        assert all(move.value.move.phase in ENDED_PHASES for _, move in view.moves.items())
        owner = None
        if not self.is_deleted:
            machine = view.machines["blue/web"].value
            assert machine.move_id is None
            owner = str(machine.machine.host)
            # Elsewhere it may be attached ahead of a move that was undone; there it is fenced.
            holder = self.agents[owner]
            assert WEB in holder.attached | holder.detached, "4: the owner's attachment was pruned"
            holder.attach(WEB)
        holds = locate(view, view.addresses["blue/vip"].value)
        table = view.table(BLUE.number)
        assert not table.transitions
        for name, agent in self.agents.items():
            assert not agent.transitions, f"{name} still permits two places"
            needs = view.interest.is_needed(name, BLUE.number)
            wanted: dict[StableId, object] = (
                {i: row.location for i, row in table.locations.items()} if needs else {}
            )
            assert {i: row for i, row in agent.locations.items() if i in wanted} == wanted
            assert needs or not {WEB, VIP} & agent.locations.keys()
            assert agent.speaks(WEB) is (name == owner)
            assert agent.speaks(VIP) is (name == holds)
            assert not self.is_deleted or WEB not in agent.locations, "4: a row of nobody"

    def _connect(self, host: str) -> None:
        view = self.agents[host].view
        self.control.connect(host, view.revision, tuple(view.networks))

    def _kill_agent(self, host: str) -> None:
        if host in self.control.links:
            self.control.disconnect(host)
        self.agents[host].restart()
