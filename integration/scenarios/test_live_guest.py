"""A live guest of QEMU moves to and fro under a policy that lets it begin nothing."""

from __future__ import annotations

import pytest

from integration.vm_migration.guest import missing_tools
from integration.vm_migration.migrations import migrate_with_netagent


@pytest.mark.skipif(bool(missing_tools()), reason=f"needs {', '.join(missing_tools())}")
def test_a_live_guest_keeps_its_connections_and_loses_nothing_that_it_was_up_for() -> None:
    outcome = migrate_with_netagent(2)
    outcome.show("netagent")

    assert all(span.is_connected for span in outcome.spans)
    assert outcome.lost_awake == 0
