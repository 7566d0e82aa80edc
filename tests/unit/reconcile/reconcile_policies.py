"""Compiled policies of a small network, and how they come in batches."""

from collections.abc import Sequence

from netagent.model.fleet import Identity
from netagent.policy.compiler import compile_policy
from netagent.policy.delta import PolicyChange, empty_policy, plan_delta
from netagent.policy.entries import CompiledPolicy
from netagent.policy.fleet import Member, make_snapshot
from netagent.policy.reading import load_policy

NETWORKS = {"red": 1, "blue": 2}
APPS = ("web", "db", "cache", "queue")
FLEET = make_snapshot(
    None,
    NETWORKS,
    [
        Member(network, app, Identity(10 * number + position), {"app": app})
        for network, number in NETWORKS.items()
        for position, app in enumerate(APPS)
    ],
)


def compiled(links: Sequence[str], version: int = 1, network: str = "red") -> CompiledPolicy:
    """Return the policy of a network; links: who may talk to whom, as `web-db`."""
    rules = [
        f"  - {{name: {link}, from: {{labels: {{app: {source}}}}},"
        f" to: {{labels: {{app: {destination}}}}}, allow: [tcp/{port}]}}"
        for port, link in enumerate(links, start=1)
        for source, _, destination in [link.partition("-")]
    ]
    text = "\n".join([f"network: {network}", *(["rules:", *rules] if rules else [])])
    return compile_policy(load_policy(text, "policy.yaml"), FLEET, version).entries


def whole(policy: CompiledPolicy, content: bytes) -> PolicyChange:
    delta = plan_delta(empty_policy(policy.network, policy.number), policy)
    return PolicyChange(policy.number, policy.network, True, content, delta)


def difference(before: CompiledPolicy, after: CompiledPolicy, content: bytes) -> PolicyChange:
    return PolicyChange(after.number, after.network, False, content, plan_delta(before, after))
