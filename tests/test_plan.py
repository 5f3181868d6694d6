"""The plan of the package holds: imports go down only, and each driver has one room."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "wsgisession"

# From the top down. A module imports only from lines below its own; what is not built yet may stand here.
PLAN = """
    testing testing.pytest
    testing.clients testing.clock testing.contract
    testing.records testing.users
    testing.workbench

    __main__
    cli
    cli.commands
    cli.arguments
    cli.doctor
    cli.index cli.copying cli.progress cli.secret cli.tables
    __init__
    moving cookies express_cookies flask django pyramid wsgi guards metrics tracing logs observed
    flask.interface flask.guards wsgi.middleware wsgi.guards observing.metrics observing.tracing observing.logs
    django.checks
    django.middleware
    django.devices django.guards
    django.engine
    django.carry_over
    django.settings
    flask.settings flask.carry_over flask.devices flask.sessions
    flask.leftovers
    wsgi.proof
    wsgi.access
    wsgi.environ
    manager
    settings session
    _core.commit
    device.gate
    device.answers
    device.endpoints
    _core.reply _core.writing
    _core.identity
    _core.visit
    _core.takeover _core.cookie_settings
    _core.services _core.values _core.info
    _core.records _core.secure _core.encryption express.codec observing.observed
    express.forms _core.codec _core.merge _core.turns _core.users
    express.cookie

    stores
    stores.redis stores.postgresql stores.mongodb stores.sqlite
    stores.redis.express stores.postgresql.express stores.mongodb.express
    stores.memory stores.sqlite.store stores.redis.store stores.postgresql.store stores.mongodb.store
    stores.redis.clients
    stores.redis.single stores.redis.clustered
    stores.redis.cluster
    stores.redis.server
    stores.redis.scripts stores.redis.failures stores.redis.layout
    stores.postgresql.server stores.sqlite.connections stores.mongodb.values stores.mongodb.client
    stores.postgresql.causes stores.postgresql.diagnosis
    stores.postgresql.libpq stores.postgresql.statements stores.sqlite.statements
    stores.redis.diagnosis stores.mongodb.diagnosis stores.sqlite.diagnosis
    stores.sqlite.leading stores.mongodb.failures stores.mongodb.documents stores.mongodb.url
    stores.redis.url
    stores.redis.connection
    device.devices device.diagnosis
    device
    device.options device.protocol device.tokens
    _core.cookies _core.ids _core.events _core.timeouts stores.base
    _core.format
    _core.plain _core.tags
    _core.users
    _core.forms
    _core.content _core.rules stores.findings stores.url stores.pool
    _core.address _core.binding

    _core express observing
    errors
"""
FLOORS = {
    module: number for number, floor in enumerate(reversed(PLAN.strip().splitlines())) for module in floor.split()
}

# Whatever is installed besides, and the one module, or package, that imports it (cryptography has two).
OWNERS = {
    "redis": "stores.redis",
    "psycopg": "stores.postgresql",
    "psycopg_pool": "stores.postgresql",
    "pymongo": "stores.mongodb",
    "bson": "stores.mongodb",
    "flask": "flask",
    "django": "django",
    "pyramid": "pyramid",
    "zope": "pyramid",
    "cryptography": ("_core.encryption", "device.protocol"),
    "click": "cli",
    "prometheus_client": "observing.metrics",
    "opentelemetry": "observing.tracing",
}

LONGEST = 300


def file_of(module: str) -> Path:
    path = ROOT.joinpath(PACKAGE, *module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and parts[:-1] else parts)


MODULES = sorted(module_of(file) for file in (ROOT / PACKAGE).rglob("*.py"))

every_module = pytest.mark.parametrize("module", MODULES)


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(file_of(module).read_text())


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """Yield the full name of everything imported, at any depth, also where only a type checker looks."""
    inside = file_of(module).relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = inside[: len(inside) - node.level + 1] if node.level else []
            origin = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def own_imports(module: str) -> set[str]:
    """Return the modules of the package that a module imports."""
    found = set()
    for name in imports(tree_of(module), module):
        outer, _, inner = name.partition(".")
        if outer == PACKAGE:
            found.add(next((known for known in (inner, inner.rpartition(".")[0]) if known in MODULES), "__init__"))
    return found


def outer_imports(tree: ast.AST, module: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(tree, module)} - {PACKAGE}


@every_module
def test_the_module_is_in_the_plan(module):
    assert module in FLOORS


@every_module
def test_imports_go_down_only(module):
    assert [name for name in own_imports(module) if FLOORS[name] >= FLOORS[module]] == []


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("stores.")])
def test_a_store_knows_errors_and_stores_only(module):
    assert {name for name in own_imports(module) if not name.startswith("stores.")} <= {"errors"}


@every_module
def test_a_driver_or_framework_is_imported_by_its_own_module_only(module):
    outer = outer_imports(tree_of(module), module)
    assert [name for name in outer if not is_owner(module, name)] == []


def is_owner(module: str, name: str) -> bool:
    owners = OWNERS.get(name, module)
    return any(f"{module}.".startswith(f"{one}.") for one in ([owners] if isinstance(owners, str) else owners))


@every_module
def test_a_driver_or_framework_is_imported_at_the_top(module):
    nested = [node for node in tree_of(module).body if not isinstance(node, ast.Import | ast.ImportFrom | ast.Try)]
    assert [name for node in nested for name in outer_imports(node, module) if name in OWNERS] == []


@every_module
def test_only_stores_imports_by_name(module):
    loaders = {"importlib.import_module", "importlib", "importlib.util", "runpy"}
    called = {node.id for node in ast.walk(tree_of(module)) if isinstance(node, ast.Name)}
    used = loaders & set(imports(tree_of(module), module)) | {"__import__"} & called
    assert module == "stores" or not used


def test_the_package_imports_no_driver_and_no_framework():
    program = f"import sys, {PACKAGE}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in loaded.stdout.split()} & set(OWNERS) == set()


@every_module
def test_no_module_is_too_long(module):
    assert len(lines_of_code(file_of(module).read_text())) <= LONGEST


def lines_of_code(source: str) -> set[int]:
    """Return the numbers of the lines that are neither blank, nor comment, nor docstring."""
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in blank:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return code


def test_lines_of_code_are_counted_without_docstrings_and_comments():
    assert lines_of_code('"""One\n\ntwo."""\n\n# Three\nx = """\n\n"""\n') == {6, 7, 8}


def test_imports_are_found_wherever_they_are():
    tree = ast.parse(
        "if TYPE_CHECKING:\n    from ..errors import A\ndef f():\n    from .base import B\n    import redis"
    )
    assert set(imports(tree, "stores.memory")) == {"wsgisession.errors.A", "wsgisession.stores.base.B", "redis"}
