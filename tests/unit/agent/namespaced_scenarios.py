"""Scenarios of test_agent_root.py: one a process, as the first process of its own namespaces."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest

from netagent.agent.cleanup import cleanup
from netagent.agent.config import AgentConfig
from netagent.api.agent.v1 import agent_service_pb2 as pb
from netagent.api.agent.v1 import agent_service_pb2_grpc
from netagent.api.control.v1 import (
    machine_service_pb2,
    machine_service_pb2_grpc,
    network_service_pb2,
    network_service_pb2_grpc,
    policy_service_pb2,
    policy_service_pb2_grpc,
)
from netagent.model.errors import StateError
from netagent.model.fleet import Endpoint

DEADLINE_S = 20.0
TARGET = "unix:///run/control.sock"
CONFIG = AgentConfig(
    name="h1",
    control=TARGET,
    endpoint=Endpoint(ip_address("10.9.0.1"), 51820),
    state_dir=Path("/run/state"),
    run_dir=Path("/run/netagent"),
    bpffs=Path("/run/bpf"),
    audit_interval_s=1.0,
)

RUN_CONTROL = f"""
import asyncio
from pathlib import Path
from netagent.control.config import ControlConfig
from netagent.control.server import run_control
asyncio.run(run_control(ControlConfig(state_dir=Path("/run/control"), listen="{TARGET}")))
"""
RUN_AGENT = f"""
import asyncio
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from namespaced_scenarios import CONFIG
from netagent.agent.daemon import run_agent
asyncio.run(run_agent(CONFIG))
"""


def run(command: str) -> str:
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout


def until(claim: Callable[[], object], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        try:
            if claim():
                return
        except grpc.RpcError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"not within {DEADLINE_S} s: {what}")


class Host:
    """One host with control, an agent, and the machine red/web in a namespace."""

    def __init__(self) -> None:
        run("mount --make-rprivate /")
        run("mount -t tmpfs tmpfs /run")
        for directory in ("/run/bpf", "/run/wireguard", "/run/netns"):
            Path(directory).mkdir(parents=True)
        run("mount -t bpf bpf /run/bpf")
        run("ip link set lo up")
        run("ip link add u0 type veth peer name u1")
        run("ip addr add 10.9.0.1/24 dev u0")
        run("ip link set u0 up")
        run("ip netns add web")
        self.control = subprocess.Popen([sys.executable, "-c", RUN_CONTROL])
        self.agent = self.start_agent()
        channel = grpc.insecure_channel(TARGET, (("grpc.initial_reconnect_backoff_ms", 50),))
        networks = network_service_pb2_grpc.NetworkServiceStub(channel)
        request = network_service_pb2.CreateNetworkRequest(name="red")
        networks.CreateNetwork(request, wait_for_ready=True, timeout=DEADLINE_S)
        machines = machine_service_pb2_grpc.MachineServiceStub(channel)
        self.policies = policy_service_pb2_grpc.PolicyServiceStub(channel)
        until(lambda: self.status().connected, "connected")
        machines.CreateMachine(
            machine_service_pb2.CreateMachineRequest(network="red", name="web", host="h1")
        )
        self.stub().Attach(pb.AttachRequest(machine="red/web", netns="/run/netns/web"))
        until(lambda: self.status().endpoints[0].state == pb.ENDPOINT_STATE_LIVE, "live")

    def start_agent(self) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", RUN_AGENT])

    def stub(self) -> agent_service_pb2_grpc.AgentServiceStub:
        options = (("grpc.use_local_subchannel_pool", 1),)
        self._channel = grpc.insecure_channel(f"unix://{CONFIG.socket}", options)
        return agent_service_pb2_grpc.AgentServiceStub(self._channel)

    def status(self) -> pb.GetStatusResponse:
        return self.stub().GetStatus(pb.GetStatusRequest())

    def stop_agent(self, number: signal.Signals) -> None:
        self.agent.send_signal(number)
        self.agent.wait(DEADLINE_S)


def names() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def filters(interface: str) -> str:
    return run(f"tc filter show dev {interface} ingress")


def restart_adopts_everything_and_writes_nothing(host: Host) -> None:
    before = socket.if_nameindex(), filters("na-web")
    host.stop_agent(signal.SIGKILL)

    host.agent = host.start_agent()
    until(lambda: host.status().connected, "connected again")

    assert host.status().kernel_writes == 0
    assert (socket.if_nameindex(), filters("na-web")) == before


def killed_wireguard_comes_back(host: Host) -> None:
    before = socket.if_nametoindex("netagent0")
    (process,) = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/comm")
        if path.read_text().strip() == "wireguard-go"
    ]

    os.kill(process, signal.SIGKILL)

    until(lambda: "netagent0" in names() and socket.if_nametoindex("netagent0") != before, "anew")
    until(lambda: "from_mesh" in filters("netagent0"), "its filter")
    until(lambda: not host.status().conditions, "no condition")
    assert host.status().drift_mended > 0
    assert "51820" in run("wg show netagent0 listen-port")


def removed_interface_is_made_again(host: Host) -> None:
    run("ip link del na-web")

    until(lambda: "na-web" in names() and "from_machine" in filters("na-web"), "made again")
    until(lambda: "default via fe80::1" in run("ip netns exec web ip -6 route"), "its route")
    assert host.status().endpoints[0].ifindex == socket.if_nametoindex("na-web")


def machine_whose_namespace_is_gone_does_not_stop_the_rest(host: Host) -> None:
    host.stop_agent(signal.SIGKILL)
    run("ip link del na-web")
    run("ip link del netagent0")
    run("ip netns del web")

    host.agent = host.start_agent()
    until(lambda: host.status().connected, "connected")

    assert "from_mesh" in filters("netagent0")
    (condition,) = host.status().conditions
    assert (condition.code, "red/web" in condition.detail) == ("endpoint_missing", True)
    run("ip netns add web")
    until(lambda: not host.status().conditions, "no condition")
    assert "default via fe80::1" in run("ip netns exec web ip -6 route")


def drift_is_found_and_counted(host: Host) -> None:
    assert host.status().drift_mended == 0

    run("tc filter del dev na-web ingress")

    until(lambda: "from_machine" in filters("na-web"), "its filter")
    until(lambda: host.status().drift_mended == 1, "counted once")


def ping(source: str, destination: str) -> bool:
    """Whether one echo is answered. source: `web`, or the host for an empty one."""
    inside = ["ip", "netns", "exec", source] if source else []
    command = [*inside, "ping", "-6", "-c1", "-W1", destination]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def policies_are_enforced_told_counted_mended_and_adopted(host: Host) -> None:
    web = host.status().endpoints[0].address
    own = host.status().address
    until(lambda: ping("", web), "the built-in policy lets hosts in")
    assert not ping("web", own), "and nothing out"

    flows = [response.flow for response in host.stub().WatchFlows(pb.WatchFlowsRequest())]
    told = {(f.verdict, f.source.name, f.destination.name, f.network, f.rule) for f in flows}
    assert ("drop_denied_egress", "red/web", "host:h1", "red", "") in told
    assert ("pass_to_local_machine", "host:h1", "red/web", "red", "hosts-reach-machines") in told
    counters = host.stub().ListRuleCounters(pb.ListRuleCountersRequest(network="red")).counters
    allowed = {c.rule: c.allowed_packets for c in counters if c.at_receiver}
    assert allowed["hosts-reach-machines"] >= 2

    before = host.status().drift_mended
    row = "pinned /run/bpf/netagent/v2/policy_network key 1 0 0 0"
    run(f"bpftool map delete {row}")
    until(lambda: host.status().drift_mended > before, "drift counted")
    assert "slot" in run(f"bpftool map lookup {row}")
    assert ping("", web)

    host.policies.ApplyPolicy(policy_service_pb2.ApplyPolicyRequest(text="network: red\n"))
    until(lambda: [one.version for one in host.status().policies] == [1], "applied")
    assert not ping("", web)
    host.stop_agent(signal.SIGKILL)
    assert not ping("", web), "without an agent too"
    host.agent = host.start_agent()
    until(lambda: host.status().connected, "connected again")
    assert host.status().kernel_writes == 0


def stopping_leaves_the_data_path(host: Host) -> None:
    host.stop_agent(signal.SIGTERM)

    assert host.agent.returncode == 0
    assert {"netagent0", "na-host", "na-web"} <= names()
    assert "from_machine" in filters("na-web")
    assert sorted(path.name for path in CONFIG.state_dir.iterdir()) == [
        "lock",
        "replica.db",
        "wireguard.key",
    ]
    assert CONFIG.private_key.stat().st_mode & 0o777 == 0o600


def cleanup_leaves_nothing_of_ours_and_all_of_others(host: Host) -> None:
    run("ip tuntap add tap0 mode tap")
    host.stub().Detach(pb.DetachRequest(machine="red/web"))
    host.stub().Attach(pb.AttachRequest(machine="red/web", interface="tap0"))
    assert "from_machine" in filters("tap0")
    with pytest.raises(StateError, match="stop it first"):
        cleanup(CONFIG)
    host.stop_agent(signal.SIGTERM)

    removed = cleanup(CONFIG)

    assert names() == {"lo", "u0", "u1", "tap0"}
    assert filters("tap0") == ""
    assert not (CONFIG.bpffs / "netagent").exists()
    assert not CONFIG.state_dir.exists()
    assert "interface netagent0" in removed
    assert cleanup(CONFIG) == []


if __name__ == "__main__":
    globals()[sys.argv[1]](Host())
