"""Settings and states of a Redis server that are bad for sessions. From INFO: hosted servers forbid CONFIG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..findings import Finding, skew

_HARMLESS = "noeviction"
_SOONEST = "volatile-ttl"  # drops what would expire next
_NEARLY_FULL = 0.9

# the pattern, then databases: answers with those that have such keys, where the one in use has none. It looks at ten
# thousand keys of each: enough to find sessions, and not enough to hold the server up.
_ELSEWHERE = """
local function holds()
  local cursor = '0'
  for _ = 1, 10 do
    local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
    if #page[2] > 0 then return true end
    cursor = page[1]
    if cursor == '0' then return false end
  end
  return false
end
local found = {}
if holds() then return found end
for number = 2, #ARGV do
  redis.call('SELECT', ARGV[number])
  if holds() then found[#found + 1] = ARGV[number] end
end
return found
"""


def diagnose(ask: Callable[..., Any], *, pattern: bytes, now: float) -> Iterator[Finding]:
    """Look at one server.

    :param ask: sends it a command.
    :param pattern: of the keys that hold sessions.
    """
    info = _parsed(ask("INFO"))
    if info.get("role") == "slave":
        yield Finding(
            "problem", "the server is a replica", "name the master in the store's URL, or the Sentinels that know it"
        )
    yield from _eviction(info)
    seconds, microseconds = ask("TIME")
    yield from skew(int(seconds) + int(microseconds) / 1e6, now=now)
    databases = [name[2:] for name in info if name.startswith("db") and name[2:].isdecimal()]
    if databases and info.get("cluster_enabled") != "1":
        for number in ask("EVAL", _ELSEWHERE, 0, pattern, *databases):
            fact = f"there are no sessions in this database of the server, but some in its database {int(number)}"
            yield Finding("warning", fact, "correct the number at the end of the store's URL, if they are this app's")


def _parsed(info: bytes) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, _, value in pairs}


def _eviction(info: Mapping[str, str]) -> Iterator[Finding]:
    policy, limit = info.get("maxmemory_policy", "noeviction"), int(info.get("maxmemory", 0))
    used, evicted = int(info.get("used_memory", 0)), int(info.get("evicted_keys", 0))
    if policy != _HARMLESS:
        which = "the sessions that would expire first" if policy == _SOONEST else "live sessions"
        when = "ends {} when memory is full" if limit else "would end {} if maxmemory were set"
        fact = f"the server's maxmemory-policy {policy} {when.format(which)}, and may drop a user's index, so that"
        fact += " revoke_user misses sessions"
        cure = "set it to noeviction, with which a full server refuses logins but logs nobody out"
        yield Finding("problem" if limit and policy != _SOONEST else "warning", fact, cure)
    if evicted:
        fact = f"the server has dropped {evicted} keys since it started, because its memory was full"
        yield Finding("problem", fact, "raise its maxmemory, or give the sessions their own server")
    if limit and used >= _NEARLY_FULL * limit:
        fact = f"the server uses {100 * used / limit:.0f} % of its maxmemory"
        yield Finding("problem", fact, "raise it, before logins are refused or sessions dropped")
