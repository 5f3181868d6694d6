"""A process of the old version that does what it is told: see peer.py."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.compat.old_version import OldVersionUnavailable, old_python

PEER = Path(__file__).with_name("peer.py")


class OldVersion:
    """The old version, in its own environment. Where it cannot be installed the test fails, and says what to do."""

    def __init__(self) -> None:
        try:
            python = old_python()
        except OldVersionUnavailable as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        self.process = subprocess.Popen(
            [python, "-E", "-W", "ignore", str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, wanted: dict[str, Any]) -> Any:
        """Send a line, and return the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(wanted) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the old version ended; its error is above"
        answer = json.loads(line)
        assert "failed" not in answer, f"the old version failed:\n{answer['failed']}"
        return answer

    def close(self) -> None:
        self.process.communicate(timeout=10)
