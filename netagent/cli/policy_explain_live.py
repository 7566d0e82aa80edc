"""`netagent policy explain` without files: what the hosts of both ends say from their kernels."""

from __future__ import annotations

from collections.abc import Iterable

import click

from netagent.api.control.v1 import machine_service_pb2 as machine_pb
from netagent.api.control.v1 import policy_service_pb2 as pb
from netagent.api.control.v1.machine_service_pb2_grpc import MachineServiceStub
from netagent.api.control.v1.policy_service_pb2_grpc import PolicyServiceStub
from netagent.api.types.v1 import types_pb2
from netagent.cli.channel import control_stub, timeout_s
from netagent.cli.failures import ExitCode, Failure, printable
from netagent.cli.options import Shared
from netagent.cli.output import print_json
from netagent.cli.policy_control import naming_machines
from netagent.cli.policy_explain import opinion_view
from netagent.policy.explain import Opinion
from netagent.policy.language import Decision, Verdict

HOST = "host"


def explain_live(options: Shared, source: str, destination: str, traffic: str) -> None:
    """Print what the hosts say; Failure when the verdict hangs on one that does not answer."""
    with naming_machines(options, source, destination):
        ends = [_full_name(options, each) for each in (source, destination)]
        with control_stub(options, PolicyServiceStub) as stub:
            request = pb.ExplainFlowRequest(to=ends[1], traffic=traffic, **{"from": ends[0]})
            found = stub.ExplainFlow(request, timeout=timeout_s(options))
    # One end that denies is enough to know; that all others allow is not.
    verdict = "deny" if not found.allowed else "allow" if found.complete else None
    if options.is_json:
        print_json(
            {
                "from": ends[0],
                "to": ends[1],
                "traffic": traffic,
                "verdict": verdict,
                "opinions": [_view(each) for each in found.opinions],
            }
        )
    else:
        click.echo(printable(f"{ends[0]} -> {ends[1]} {traffic}: {_WORDS[verdict]}"))
        for line in _lines(found.opinions):
            click.echo(printable(line))
    if verdict is None:
        silent = [f"the {each.at}: {each.problem}" for each in found.opinions if each.problem]
        raise Failure(f"no answer from {'; from '.join(silent)}", ExitCode.UNREACHABLE)


_WORDS = {"allow": "allowed", "deny": "denied", None: "not known"}


def _full_name(options: Shared, end: str) -> str:
    """Return NETWORK/NAME of a machine that is named in short, and all else as it is."""
    if end == HOST or ":" in end or "/" in end:
        return end
    with control_stub(options, MachineServiceStub) as stub:
        request = machine_pb.GetMachineRequest(machine=end)
        found = stub.GetMachine(request, timeout=timeout_s(options)).machine
    return f"{found.network}/{found.name}"


def _lines(opinions: Iterable[pb.EndOpinion]) -> Iterable[str]:
    ends = {each.at: each for each in opinions}
    for at in ("sender", "receiver"):
        yield f"  {at:<9} {_describe(ends[at]) if at in ends else 'nobody is asked'}"


def _describe(end: pb.EndOpinion) -> str:
    if not end.HasField("opinion"):
        return f"no answer: {end.problem}"
    if not end.opinion.network:
        return f"no policy is asked (host {end.host})"
    return f"{_opinion(end.at, end.opinion).describe()} (host {end.host})"


def _view(end: pb.EndOpinion) -> dict[str, object]:
    if not end.HasField("opinion"):
        unknown = dict.fromkeys(("network", "version", "verdict", "rule", "audited", "audit_rule"))
        return {"at": end.at, "host": end.host, **unknown, "problem": end.problem}
    return opinion_view(_opinion(end.at, end.opinion), end.host)


def _opinion(at: str, said: types_pb2.Opinion) -> Opinion:
    verdict = Verdict.ALLOW if said.allowed else Verdict.DENY
    audit_rule = said.audit_rule or None
    decision = Decision(verdict, said.rule or None, said.audited, audit_rule)
    return Opinion(at, said.network, said.version, decision)
