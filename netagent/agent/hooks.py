"""Executables that are told what happens to machines on this host.

One of the event's name in the directory, if it is there. Its environment and exit codes are in
docs/moves.md, "Hooks". What it writes goes to the agent's standard error.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

TIMEOUT_S = 60.0


class Hooks:
    """The directory of hooks; it need not exist."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def run(self, event: str, environment: Mapping[str, str]) -> str:
        """Run the hook of an event to its end; return what is wrong, empty when nothing is.

        That there is none is not wrong. One that takes longer than TIMEOUT_S is killed.
        """
        path = self._directory / event
        if not await asyncio.to_thread(path.exists):
            return ""
        try:
            process = await asyncio.create_subprocess_exec(
                path,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,
                env={**os.environ, **environment, "NETAGENT_HOOK": event},
            )
        except OSError as error:
            return f"hook {path} cannot be started: {error.strerror or error}"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                code = await process.wait()
        except TimeoutError:
            return f"hook {path} was killed: it took longer than {TIMEOUT_S:g} s"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return f"hook {path} ended with code {code}" if code else ""
