"""Change the core in small ways, one at a time, and see which changes no test notices: ``make mutants``.

    python -m tests.mutants [NAME ...]      names may have wildcards: "wsgisession.session*"
    python -m tests.mutants --sample 500    so many of all, chosen at random, but the same ones each time

mutmut makes the changes and runs the tests that reach each changed function; its settings are in pyproject.toml.
Changes that survive must be explained in mutants.txt, and at most 5 % may. This prints the others as diffs.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
EXPLAINED = Path(__file__).with_name("mutants.txt")
MOST_SURVIVORS = 0.05

SURVIVED = {0: "survived", 33: "not reached by any test"}
"""mutmut's exit codes of a change that no test noticed."""
NOT_RUN = {None, 2, 34}


class Survivor(NamedTuple):
    """A change that no test noticed."""

    name: str
    how: str

    def diff(self) -> str:
        """Return the change as mutmut shows it."""
        command = [sys.executable, "-m", "mutmut", "show", self.name]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    def key(self, diff: str) -> str:
        """Return what identifies the change in mutants.txt, whatever else changes in its file."""
        lines = [line for line in diff.splitlines() if re.match(r"[-+](?![-+]{2} )", line)]
        return f"{function_of(self.name)}: " + " ".join(re.sub(r"\s+", " ", line) for line in lines)


def function_of(name: str) -> str:
    """Return the function that a mutant is of, as ``module.Class.method``."""
    return re.sub(r"__mutmut_\d+$", "", name).replace("xǁ", "").replace("ǁ", ".").replace(".x_", ".")


def results(patterns: list[str]) -> Iterator[tuple[str, int | None]]:
    """Return each mutant that mutmut made, and how its tests ended."""
    for path in sorted((ROOT / "mutants" / "wsgisession").rglob("*.meta")):
        codes: dict[str, int | None] = json.loads(path.read_text())["exit_code_by_key"]
        for name, code in codes.items():
            if not patterns or any(fnmatch(name, pattern) for pattern in patterns):
                yield name, code


def explanations() -> dict[str, str]:
    """Return why each explained change is equivalent: a line with the change, then one that is indented."""
    lines = [line for line in EXPLAINED.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return dict(zip(lines[::2], map(str.strip, lines[1::2]), strict=True))


def sample(size: int) -> list[str]:
    """Let mutmut make all mutants, and return the names of some."""
    run(["no such mutant"])
    names = [name for name, _ in results([])]
    return sorted(random.Random(7).sample(names, min(size, len(names))))


def run(patterns: list[str]) -> int:
    """Let mutmut try the mutants of these names."""
    own = {**os.environ, "WSGISESSION_TEST_PROFILE": "few"}
    return subprocess.run([sys.executable, "-m", "mutmut", "run", *patterns], cwd=ROOT, env=own, check=False).returncode


def main(patterns: list[str]) -> int:
    """Try the mutants and return 0 if every survivor is explained, and few survive."""
    if patterns[:1] == ["--sample"]:
        patterns = sample(int(patterns[1]))
    return run(patterns) or report(patterns)


def report(patterns: list[str]) -> int:
    """Say how many were tried, killed, and explained, and show the others."""
    ended = dict(results(patterns))
    tried = {name: code for name, code in ended.items() if code not in NOT_RUN}
    survivors = [Survivor(name, SURVIVED[code]) for name, code in tried.items() if code in SURVIVED]
    known, unexplained = explanations(), list[tuple[Survivor, str]]()
    for survivor in survivors:
        diff = survivor.diff()
        if survivor.key(diff) not in known:
            unexplained.append((survivor, diff))
    for survivor, diff in unexplained:
        print(f"\n{survivor.name}: {survivor.how}\n{diff}{survivor.key(diff)}")
    counts = Counter(function_of(name).rpartition(".")[0] for name in (one.name for one in survivors))
    for module, number in counts.most_common():
        print(f"{number:5} survivors in {module}")
    share = len(survivors) / max(1, len(tried))
    print(
        f"{len(ended)} mutants: {len(tried)} tried, {len(tried) - len(survivors)} killed, {len(survivors)} survived"
        f" ({share:.1%}), {len(survivors) - len(unexplained)} of them explained"
    )
    return int(bool(unexplained) or share > MOST_SURVIVORS)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(report(arguments[1:]) if arguments[:1] == ["--report"] else main(arguments))
