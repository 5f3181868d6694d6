"""axe-core finds no violation on any page of the demonstration, in light and dark mode, on a desktop and on a phone."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.test_browser import browser, demo, sign_up, visit  # noqa: F401
from tests.test_demo import PAGES

SIGNED_OUT = ("/", "/sign-in", "/sign-up", "/sign-in?next=/devices", "/cart", "/live", "/inside", "/nothing-here")
SCREENS = {"desktop": {"width": 1080, "height": 800}, "phone": {"width": 390, "height": 844}}


def violations(page: Page) -> list[str]:
    """Return each violated rule of axe-core with the elements that violate it."""
    found = Axe().run(page).response["violations"]
    return [f"{each['id']} at {page.url}: {node['html'][:120]}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_axe_finds_nothing(visit: Any, scheme: str, screen: str) -> None:  # noqa: F811
    page = visit(color_scheme=scheme, viewport=SCREENS[screen], bypass_csp=True)
    found: list[str] = []
    for path in SIGNED_OUT:
        page.goto(path)
        found += violations(page)
    sign_up(page, f"Ada on a {scheme} {screen}", is_admin=True)
    for path in PAGES:
        page.goto(path)
        found += violations(page)
    page.goto("/fixation")
    page.get_by_role("button", name="Attack two sites").click()
    found += violations(page)
    page.goto("/inside")
    page.get_by_role("button", name="Change deep inside").click()
    found += violations(page)
    assert found == []


def test_the_receipt_does_not_touch_the_cards_on_a_phone(visit: Any) -> None:  # noqa: F811
    page = visit(viewport=SCREENS["phone"])
    last = page.get_by_role("main").get_by_role("listitem").last.bounding_box()
    receipt = page.get_by_role("complementary").bounding_box()
    assert receipt["y"] - (last["y"] + last["height"]) >= 16


def test_the_block_of_code_can_be_scrolled_with_the_keyboard_on_a_phone(visit: Any) -> None:  # noqa: F811
    page = visit(viewport=SCREENS["phone"])
    page.goto("/live")
    code = page.get_by_role("region", name="How it works")
    code.focus()
    before = code.evaluate("element => element.scrollLeft")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("element => element.scrollLeft > 0", arg=code.element_handle())
    assert before == 0
