"""All benchmarks, or those named: ``python -m benchmarks [--quick] [inprocess] [servers] [growth] [parts] ...``.

Prints the tables, and puts them with the plots into docs; ``--quick`` takes less than a minute, and only prints.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks import comparison, contention, growth, inprocess, parts, redis_work, report, servers

ALL: dict[str, Callable[..., None]] = {
    "inprocess": inprocess.main,
    "redis_work": redis_work.main,
    "contention": contention.main,
    "servers": servers.main,
    "growth": growth.main,
    "parts": parts.main,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", choices=[*ALL, []], metavar="NAME", help=", ".join(ALL))
    parser.add_argument("--quick", action="store_true", help="a small round, printed only")
    arguments = parser.parse_args()
    report.publish("machine", report.machine(), quick=arguments.quick)
    for name in arguments.names or ALL:
        ALL[name](quick=arguments.quick)
    if not arguments.quick:
        comparison.write()


if __name__ == "__main__":
    main()
