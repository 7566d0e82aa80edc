"""Every cell of docs/policy.md with real traffic; integration/matrix says what is expected."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from integration.lab.lab import Lab
from integration.matrix.run import HOSTS, Matrix, Result

SHOWN = 40


@pytest.mark.timeout(300)
def test_every_cell_of_the_policy_matrix_is_as_the_law_says() -> None:
    with Lab(hosts=HOSTS) as lab:
        matrix = Matrix(lab)
        results = list(matrix.run())

    _check(results, matrix)
    assert len(results) > 50_000


def test_a_sample_of_the_matrix_is_as_the_law_says(
    fill_lab: Callable[[Callable[[Lab], None]], Lab],
) -> None:
    """For what is too slow for all of it; between machines alone."""
    matrix = Matrix(fill_lab(_leave_empty), is_sample=True)

    results = list(matrix.run_sample())

    _check(results, matrix)
    assert len(results) > 2_000


def _leave_empty(lab: Lab) -> None:
    """Make nothing: the matrix does."""


def _check(results: list[Result], matrix: Matrix) -> None:
    wrong = [str(one) for one in results if not one.is_as_expected]
    print(f"{len(results)} probes, {sum(one.cell.is_open for one in results)} of them open")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(results)} wrong", *wrong[:SHOWN]])
    assert not matrix.silent_rules
