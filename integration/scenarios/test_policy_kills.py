"""kill -9 in the middle of an apply, at random moments: one revision or the other, never half.

red/me talks to two neighbours on its own host. One revision lets it reach the first alone, the
other the second alone. Asked in the order first, second, first, nobody who enforces one revision at
a time can let all three through, or none.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest

from integration.lab.enter import inside
from integration.lab.lab import Lab
from integration.lab.policies import apply_policy
from integration.lab.wait import wait_until
from integration.scenarios.traffic import Place, place_of
from netagent.api.control.v1 import machine_service_pb2 as machine_pb
from netagent.api.control.v1 import policy_service_pb2 as policy_pb
from netagent.api.control.v1.machine_service_pb2_grpc import MachineServiceStub
from netagent.api.control.v1.policy_service_pb2_grpc import PolicyServiceStub

pytestmark = pytest.mark.namespaces_only("is about control and agents alone")

LABELS = 120
"""So many label sets besides make 14,400 pairs: an apply that takes a while."""

PORT, FORBIDDEN = 7_700, 7_701
HALVES = {(True, True, True), (False, False, False)}
"""What nobody may see who asks in the order first, second, first."""

ANSWER_S = 0.1
"""Two machines of one host: a packet that passes is there in some microseconds, unless the machine
is busy."""


def _policy(open_to: str, turn: int) -> str:
    """Return a revision that opens one of two peers, and moves every other pair to a new class."""
    lines = [
        "network: red",
        "rules:",
        f"  - {{name: me, from: {{labels: {{role: me}}}}, to: {{labels: {{role: {open_to}}}}},"
        f" allow: [udp/{PORT}]}}",
        "  - {name: rest, from: {labels: {n: {exists: true}}}, to: {labels: {n: {exists: true}}},"
        f" allow: [tcp/{turn + 1}]}}",
    ]
    lines += [
        f"  - {{name: n{number}, from: {{labels: {{n: '{number}'}}}}, to: {{labels: {{n:"
        f" {{exists: true}}}}}}, allow: [tcp/{1000 + (number + turn) % 500}]}}"
        for number in range(LABELS)
    ]
    return "\n".join(lines) + "\n"


class Observer:
    """Probes for as long as it runs, and keeps what it saw.

    seen: how often each answer of (first, second, first again), by whether the flow was known.
    leaked: datagrams to a port that no revision opens.
    """

    def __init__(self, me: Place, first: Place, second: Place) -> None:
        self._me, self._peers = me, (first, second, first)
        self._stopping = threading.Event()
        self.seen: Counter[tuple[bool, tuple[bool, bool, bool]]] = Counter()
        self.leaked = 0
        self._asked = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with contextlib.ExitStack() as stack:
                ears = {
                    (peer.address, port): stack.enter_context(_ear(peer, port))
                    for peer in self._peers[:2]
                    for port in (PORT, FORBIDDEN)
                }
                known = stack.enter_context(_mouth(self._me))
                while not self._stopping.is_set():
                    self._ask(known, ears, is_known=True)
                    with _mouth(self._me) as fresh:
                        self._ask(fresh, ears, is_known=False)
        except BaseException as error:
            self.failure = error
            raise

    def stop(self) -> None:
        self._stopping.set()

    def wait_sees(self, answers: tuple[bool, bool, bool]) -> None:
        """Wait until new flows and the known one are answered so, a few times more."""
        before = Counter(self.seen)

        def sees() -> bool:
            keys = [(is_known, answers) for is_known in (True, False)]
            return all(self.seen[key] > before[key] + 3 for key in keys)

        wait_until(f"the answers are {answers}", sees)

    def _ask(
        self, mouth: socket.socket, ears: dict[tuple[str, int], socket.socket], *, is_known: bool
    ) -> None:
        answers = []
        for peer in self._peers:
            self._asked += 1
            question = str(self._asked).encode()
            mouth.sendto(b"forbidden", (peer.address, FORBIDDEN))
            mouth.sendto(question, (peer.address, PORT))
            answers.append(_is_heard(ears[peer.address, PORT], question))
            ear = ears[peer.address, FORBIDDEN]
            with contextlib.suppress(BlockingIOError, TimeoutError):
                ear.settimeout(0)
                ear.recv(100)
                self.leaked += 1
        first, second, again = answers
        self.seen[is_known, (first, second, again)] += 1


@contextlib.contextmanager
def _observing(me: Place, first: Place, second: Place) -> Iterator[Observer]:
    observer = Observer(me, first, second)
    thread = threading.Thread(target=observer.run)
    thread.start()
    try:
        yield observer
    finally:
        observer.stop()
        thread.join()


def _ear(place: Place, port: int) -> socket.socket:
    with inside(place.namespace):
        ear = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    ear.bind((place.address, port))
    return ear


def _mouth(place: Place) -> socket.socket:
    with inside(place.namespace):
        mouth = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    mouth.bind((place.address, 0))
    return mouth


def _is_heard(ear: socket.socket, question: bytes) -> bool:
    ear.settimeout(ANSWER_S)
    try:
        while ear.recv(100) != question:
            pass  # One that came too late for its own question.
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    "kills", [pytest.param(5), pytest.param(60, marks=pytest.mark.long)], ids=["few", "many"]
)
def test_an_agent_killed_in_the_middle_leaves_one_revision_whole(lab: Lab, kills: int) -> None:
    lab.network("red")
    names = ("me", "one", "two")
    roles = {name: lab.machine(f"red/{name}", "host-a", {"role": name}) for name in names}
    machines = MachineServiceStub(lab.channel)
    for number in range(LABELS):
        request = machine_pb.CreateMachineRequest(
            network="red", name=f"n{number}", labels={"n": str(number)}, host="host-a"
        )
        machines.CreateMachine(request, timeout=10)
    me, one, two = (place_of(roles[name]) for name in names)
    host, policies = lab.hosts["host-a"], PolicyServiceStub(lab.channel)
    randomness = random.Random(20_261_124)
    apply_policy(lab, _policy("one", 0))

    with _observing(me, one, two) as observer:
        for turn in range(1, kills + 1):
            text = _policy("two" if turn % 2 else "one", turn)
            policies.ApplyPolicy(policy_pb.ApplyPolicyRequest(text=text), timeout=60)
            # Not a wait for something: the moment of the kill is the thing under test.
            time.sleep(randomness.uniform(0, 0.25))
            host.kill_agent()
            host.start_agent()
            newest = (False, True, False) if turn % 2 else (True, False, True)
            observer.wait_sees(newest)

    assert observer.failure is None
    assert observer.leaked == 0
    halves = {key: count for key, count in observer.seen.items() if key[1] in HALVES}
    assert not halves, f"{halves} of {observer.seen}"
    print(dict(observer.seen))


def test_control_killed_in_the_middle_applies_whole_or_not_at_all(lab: Lab) -> None:
    lab.network("red")
    lab.machine("red/me", "host-a", {"role": "me"})
    host, policies = lab.hosts["host-a"], PolicyServiceStub(lab.channel)
    randomness = random.Random(20_261_125)
    texts = [_policy("one", turn) for turn in range(4)]
    apply_policy(lab, texts[0])

    for text in texts[1:]:
        call = policies.ApplyPolicy.future(policy_pb.ApplyPolicyRequest(text=text), timeout=60)
        # Not a wait for something: the moment of the kill is the thing under test.
        time.sleep(randomness.uniform(0, 0.1))
        lab.kill_control()
        lab.start_control()
        with contextlib.suppress(grpc.RpcError):
            call.result()
        found = policies.GetPolicy(policy_pb.GetPolicyRequest(network="red"), timeout=20).policy

        assert found.text in texts
        wait_until(
            "host-a enforces what control has",
            lambda version=found.version: (
                version in [one.version for one in host.status().policies if one.network == "red"]
            ),
        )
