"""Take the README's picture of the demonstration: ``python -m tests.screenshot``."""

from __future__ import annotations

from tests.chromium import chromium
from tests.servers import ROOT
from tests.test_demo import PASSWORD, started

PICTURE = ROOT / "docs" / "images" / "demo.png"


def main() -> None:
    with chromium() as browser:
        for demo in started():
            page = browser.new_page(base_url=demo.url, viewport={"width": 1080, "height": 800}, device_scale_factor=1.5)
            page.goto("/sign-up")
            page.get_by_label("Name").fill("Ada")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("main").get_by_role("button").click()
            page.goto("/inside")
            page.get_by_role("button", name="Change deep inside").click()
            page.mouse.move(0, 0)
            PICTURE.parent.mkdir(exist_ok=True)
            page.screenshot(path=PICTURE)


if __name__ == "__main__":
    main()
