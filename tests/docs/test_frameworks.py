"""Each framework's example counts a visitor's visits."""

from __future__ import annotations

import re

import pytest
from werkzeug.test import Client

from tests.docs.pages import blocks, text_of
from tests.web import SECRET

PAGE = "frameworks.md"
FRAMEWORKS = ["bottle", "falcon", "pyramid", "cherrypy", "webob"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_example_of_a_framework_counts_visits(framework, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    (example,) = blocks(PAGE, f"python {framework}")
    world = {"__name__": "__main__"}
    exec(example, world)
    app = world["app"]
    visitor, other = Client(app), Client(app)
    assert [visitor.get("/").text for _ in range(2)] == ["visit 1", "visit 2"]
    assert other.get("/").text == "visit 1"
    app.manager.close()


def test_every_example_of_the_page_is_run():
    assert set(re.findall(r"^```python (\w+)$", text_of(PAGE), re.MULTILINE)) == set(FRAMEWORKS)
