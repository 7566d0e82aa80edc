"""The matrix as a page: the cells of a run, summed up in two ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from integration.matrix.run import Result

COMMAND = "script/matrix"

INTRODUCTION = """# The law, cell by cell

<!-- Written by `{command} --write docs/policy-matrix.md`; do not edit. -->

Each figure counts probes of real traffic: a packet of a new flow and its answer, through agents,
WireGuard and the kernel of a lab with two hosts. What is open passed both ways; what is closed did
not even arrive. Each came out as the cells in `integration/matrix` say it must, which know
docs/policy.md and none of our code; what did not would stand here as **wrong**.

{total:,} probes, {wrong} wrong; Linux {kernel}.

- Protocols: TCP, UDP, SCTP, ICMPv6 echo, another ICMPv6 type, and one without ports. A rule names
  them one by one (each port is also probed with a protocol that the rule does not name there), or
  says `any`. SCTP goes through raw sockets, since kernels may lack it: to the packet path, what
  begins such a flow is one packet like any other.
- Each rule is probed with parties that its selector matches and with those that it does not, and
  against its direction, where it must do nothing.
- Answers need no rule: every open cell but those of the other ICMPv6 type has had one.

What cannot be:

- Outside has no host: what comes in enters at the machine's host, and what goes out leaves there.
- Selectors of labels without `network` match no machine of another network, no host and nobody
  outside. These cells are here all the same, as a party that the selector does not match.
- Hosts and outside have no policy, so that no rule is about traffic among them.
- Replies, fragments other than the first, and ICMPv6 errors about a flow are not asked about.
"""


def write_page(results: Sequence[Result], kernel: str) -> str:
    """Return the page in Markdown."""
    rules = [one for one in results if one.cell.kind]
    others = [one for one in results if not one.cell.kind]
    wrong = sum(not one.is_as_expected for one in results)
    parts = [
        INTRODUCTION.format(command=COMMAND, total=len(results), wrong=wrong, kernel=kernel),
        "## Selectors, along the rule's direction",
        _table(
            [one for one in rules if one.cell.is_along],
            ("selector", "direction"),
            lambda one: (one.cell.kind, one.cell.direction.value),
            lambda one: one.cell.effect,
        ),
        "## Where the other party is, along the rule's direction",
        _table(
            [one for one in rules if one.cell.is_along],
            ("other party", "direction"),
            lambda one: (one.cell.where.value, one.cell.direction.value),
            lambda one: one.cell.effect,
        ),
        "## Protocols, along the rule's direction",
        _table(
            [one for one in rules if one.cell.is_along],
            ("protocol", "rule says"),
            lambda one: (one.cell.protocol, "each port" if one.cell.shape == "listed" else "any"),
            lambda one: one.cell.effect,
        ),
        "## Against the rule's direction",
        _table(
            [one for one in rules if not one.cell.is_along],
            ("other party", "direction"),
            lambda one: (one.cell.where.value, one.cell.direction.value),
            lambda one: one.cell.effect,
        ),
        "## Without a rule",
        _table(
            [one for one in others if not one.cell.effect.startswith("shop ")],
            ("other party", "direction"),
            lambda one: (one.cell.where.value, one.cell.direction.value),
            lambda one: one.cell.effect,
        ),
        "## Between two networks",
        _table(
            [one for one in others if one.cell.effect.startswith("shop ")],
            ("policies", ""),
            lambda one: (one.cell.effect, ""),
            lambda one: f"{one.cell.where.value}, {one.cell.direction.value}",
        ),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(
    results: Iterable[Result],
    heads: tuple[str, str],
    row_of: Callable[[Result], tuple[str, str]],
    column_of: Callable[[Result], str],
) -> str:
    """Return a table with a row and column as they first come up."""
    found: dict[tuple[str, str], dict[str, list[Result]]] = {}
    columns: dict[str, None] = {}
    for one in results:
        columns[column_of(one)] = None
        found.setdefault(row_of(one), {}).setdefault(column_of(one), []).append(one)
    lines = ["| " + " | ".join((*heads, *columns)) + " |"]
    lines.append("|" + "---|" * (len(heads) + len(columns)))
    for row, cells in found.items():
        texts = (_sum_up(cells.get(column, [])) for column in columns)
        lines.append("| " + " | ".join((*row, *texts)) + " |")
    return "\n".join(lines)


def _sum_up(results: Sequence[Result]) -> str:
    right = [one for one in results if one.is_as_expected]
    is_open = sum(one.cell.is_open for one in right)
    counts = {
        "open": is_open,
        "closed": len(right) - is_open,
        "**wrong**": len(results) - len(right),
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "–"
