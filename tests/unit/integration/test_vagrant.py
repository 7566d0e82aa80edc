"""The page for people is what vagrant/log runs, and Vagrant's lab refuses what it cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from integration.lab.backend import AnyLab, CannotDo
from integration.lab.vagrant.lab import VagrantLab
from integration.lab.vagrant.log import README, fits, read_steps

PAGE = """
```
$ not a step
```

```console
$ first
...
$ second --option
one
two
```

```console
$ third
```
"""


def test_steps_are_those_of_console_blocks() -> None:
    assert list(read_steps(PAGE)) == [
        ("first", "...\n"),
        ("second --option", "one\ntwo\n"),
        ("third", ""),
    ]


@pytest.mark.parametrize(
    ("printed", "expected", "is_fit"),
    [
        pytest.param("one\ntwo\n", "one\ntwo\n", True, id="same"),
        pytest.param("one\ntwo\nthree\n", "one\n...\n", True, id="any-rest"),
        pytest.param("zero\none\n", "...\none\n", True, id="any-beginning"),
        pytest.param("two\n", "one\n...\n", False, id="another-beginning"),
        pytest.param("one\n", "", False, id="something-for-nothing"),
    ],
)
def test_three_dots_stand_for_any_lines(printed: str, expected: str, is_fit: bool) -> None:
    assert fits(printed, expected) is is_fit


def test_the_page_brings_a_fleet_up_first_and_away_at_last() -> None:
    commands = [command for command, _ in read_steps(README.read_text())]

    assert commands[0] == "vagrant up"
    assert commands[-1] == "vagrant destroy -f"
    assert len(commands) > 10
    assert all(command.startswith("vagrant ") for command in commands)


@pytest.mark.parametrize(
    "shape",
    [{"underlay": 6}, {"mtu_bytes": 9000}, {"kernels": ("6.1", "6.12")}, {"hosts": 10}],
    ids=["ipv6", "mtu", "kernels", "hosts"],
)
def test_a_shape_that_the_vagrantfile_has_not_is_refused(shape: dict[str, Any]) -> None:
    with pytest.raises(CannotDo):
        VagrantLab(**shape)


def test_vagrants_lab_can_do_what_scenarios_ask_of_it() -> None:
    assert {name for name in vars(AnyLab) if not name.startswith("_")} <= set(dir(VagrantLab))
