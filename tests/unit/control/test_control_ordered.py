"""Names in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netagent.control.ordered import OrderedNames


def test_networks_come_before_names() -> None:
    names: OrderedNames[int] = OrderedNames()
    for number, name in enumerate(["b/x", "a-b/x", "a/z", "a/y"]):
        names.set(name, number)

    assert [name for name, _ in names.items()] == ["a/y", "a/z", "a-b/x", "b/x"]
    assert [name for name, _ in names.after("a/y")] == ["a/z", "a-b/x", "b/x"]
    assert [name for name, _ in names.after("a/m", "a/")] == ["a/y", "a/z"]
    assert [name for name, _ in names.before("a-b/x")] == ["a/z", "a/y"]
    assert next(names.before(""))[0] == "b/x"


@given(
    st.lists(st.tuples(st.booleans(), st.text("ab-/", min_size=1, max_size=4)), max_size=40),
    st.text("ab-/", max_size=4),
)
def test_names_agree_with_sorting(steps: list[tuple[bool, str]], probe: str) -> None:
    names: OrderedNames[None] = OrderedNames()
    model: set[str] = set()
    for is_set, name in steps:
        if is_set:
            names.set(name, None)
            model.add(name)
        else:
            names.remove(name)
            model.discard(name)

    expected = sorted(model, key=lambda name: name.split("/"))
    after = [name for name in expected if name.split("/") > probe.split("/")]
    assert [name for name, _ in names.items()] == expected
    assert [name for name, _ in names.after(probe)] == (after if probe else expected)
    assert len(names) == len(model)
