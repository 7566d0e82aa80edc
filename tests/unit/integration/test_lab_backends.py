"""Every backend has what scenarios use, and the guests' image has a name that its inputs decide."""

import pytest

from integration.lab.backend import AnyHost, AnyLab
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.vm import image
from integration.lab.vm.host import GuestHost
from integration.lab.vm.lab import VmLab
from integration.lab.vm.qemu import port_names


def methods_of(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


@pytest.mark.parametrize("kind", [Lab, VmLab])
def test_a_lab_can_do_what_scenarios_ask_of_it(kind: type) -> None:
    assert methods_of(AnyLab) <= set(dir(kind))


@pytest.mark.parametrize("kind", [Host, GuestHost])
def test_a_host_can_do_what_scenarios_ask_of_it(kind: type) -> None:
    assert methods_of(AnyHost) <= set(dir(kind))


def test_an_image_is_named_by_what_it_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    before = image.digest_of_inputs()

    monkeypatch.setattr(image, "GUEST_PACKAGES", (*image.GUEST_PACKAGES, "cowsay"))

    assert image.digest_of_inputs() != before


@pytest.mark.parametrize(
    ("guest", "ports"),
    [("control", ("control", "trunk")), ("host-a", ("port-a", "trunk-a"))],
)
def test_ports_of_the_fabric_are_named_as_in_a_lab_of_namespaces(
    guest: str, ports: tuple[str, str]
) -> None:
    assert port_names(guest) == ports
