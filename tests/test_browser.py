"""In a real browser, every page of the demonstration does what it says, and the cookie goes where it should."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.chromium import TLSGunicorn, Watch, chromium
from tests.programs import skip_without
from tests.servers import ServerUnavailable
from tests.test_demo import PAGES, PASSWORD, Demo, started

expect.set_options(timeout=10_000)

Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with ExitStack() as stack:
        try:
            browser = stack.enter_context(chromium())
        except ServerUnavailable:
            skip_without("a browser")
        yield browser


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    yield from started()


@pytest.fixture
def visit(browser: Browser, demo: Demo) -> Iterator[Visit]:
    """Open the demonstration's home page in a browser profile of its own; at the end no page has complained."""
    watches: list[Watch] = []
    with ExitStack() as stack:

        def visit(url: str = demo.url, **options: Any) -> Page:
            context = stack.enter_context(browser.new_context(base_url=url, ignore_https_errors=True, **options))
            context.set_default_timeout(10_000)
            watches.append(Watch(context))
            page = context.new_page()
            page.goto("/")
            return page

        yield visit
    assert [complaint for watch in watches for complaint in watch.complaints] == []


def sign_up(page: Page, name: str, *, is_admin: bool = False) -> None:
    page.goto("/sign-up")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("admin").set_checked(is_admin)
    page.get_by_role("main").get_by_role("button", name="Sign up").click()
    expect(heading(page)).to_have_text(f"Hello, {name}")


def sign_in(page: Page, name: str) -> None:
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(heading(page)).to_have_text(f"Hello, {name}")


def sign_out(page: Page) -> None:
    """Sign out; the browser no longer has a cookie when it loads the next page."""
    with page.expect_request(lambda request: request.method == "GET" and request.url.count("/") == 3) as home:
        page.get_by_role("button", name="Sign out").click()
    expect(heading(page)).to_have_text("Hello, stranger")
    assert "cookie" not in home.value.all_headers()


def heading(page: Page) -> Locator:
    return page.get_by_role("heading", level=1)


def receipt(page: Page) -> Locator:
    return page.get_by_role("complementary", name="What this page cost")


def cookie_of(context: BrowserContext) -> Any:
    (cookie,) = context.cookies()
    return cookie


# The pages.


def test_two_tabs_add_to_one_cart_at_once_and_nothing_is_lost(visit):
    tabs = [visit()]
    tabs.append(tabs[0].context.new_page())
    for tab in tabs:
        tab.goto("/cart")
    for tab in tabs:
        tab.get_by_role("button", name="Add four apples at once").click()
    for tab in tabs:
        expect(tab.get_by_role("button", name="Add four apples at once")).to_be_enabled()
    tabs[0].goto("/cart")
    expect(tabs[0].locator("[data-item=apple]")).to_have_text("8")
    expect(tabs[0].locator("#history")).to_have_text(", ".join(["+1 apple"] * 8))
    tabs[0].get_by_role("button", name="Remove one apple").click()
    expect(tabs[0].locator("[data-item=apple]")).to_have_text("7")


def test_visitors_stay_in_their_test_group(visit):
    page = visit()
    page.goto("/cart")
    group = page.locator("#group").inner_text()
    for _ in range(5):
        page.reload()
        expect(page.locator("#group")).to_have_text(group)


def test_an_ended_device_is_signed_out_on_its_next_click_and_its_open_live_page_within_seconds(visit):
    desk, phone = visit(), visit()
    sign_up(desk, "Ada")
    sign_in(phone, "Ada")
    phone.get_by_role("link", name="Live", exact=True).click()
    expect(phone.locator("#socket")).to_have_text("connected")
    desk.get_by_role("link", name="Devices", exact=True).click()
    expect(desk.get_by_role("main").get_by_role("listitem")).to_have_count(2)
    desk.get_by_role("button", name="End", exact=True).click()
    expect(desk.get_by_role("status")).to_contain_text("signed out")
    expect(desk.get_by_role("main").get_by_role("listitem")).to_have_count(1)
    expect(phone.locator("#socket")).to_contain_text("This session has ended.")  # within seconds, without a click
    expect(phone.get_by_role("button", name="Count")).to_be_disabled()
    phone.get_by_role("link", name="wsgisession").click()
    expect(heading(phone)).to_have_text("Hello, stranger")
    expect(phone.get_by_role("status")).to_contain_text("Your session has ended")
    expect(desk.get_by_role("button", name="Sign out")).to_be_visible()


def test_all_other_devices_are_ended_together(visit):
    desk, *others = visit(), visit(), visit()
    sign_up(desk, "Barbara")
    for each in others:
        sign_in(each, "Barbara")
    desk.goto("/devices")
    desk.get_by_role("button", name="End all others").click()
    expect(desk.get_by_role("status")).to_have_text("2 other devices are signed out.")
    for each in others:
        each.reload()
        expect(heading(each)).to_have_text("Hello, stranger")


def test_two_tabs_and_their_sockets_share_one_counter(visit):
    tabs = [visit()]
    tabs.append(tabs[0].context.new_page())
    for tab in tabs:
        tab.goto("/live")
    for number, tab in enumerate([tabs[0], tabs[1], tabs[1], tabs[0]], 1):
        tab.get_by_role("button", name="Count").click()
        expect(tab.locator("#count")).to_have_text(str(number))
    tabs[1].reload()
    expect(tabs[1].locator("#count")).to_have_text("4")


def test_a_planted_session_is_dead_once_the_visitor_signs_in(visit):
    attacker, victim = visit(), visit()
    victim.context.clear_cookies()
    victim.context.add_cookies(attacker.context.cookies())
    sign_up(victim, "Carol")
    attacker.reload()
    expect(heading(attacker)).to_have_text("Hello, stranger")
    victim.goto("/fixation")
    expect(victim.get_by_text("— dead")).to_be_visible()
    victim.get_by_role("button", name="Attack two sites").click()
    expect(victim.get_by_role("article").nth(0)).to_contain_text("The attack works")
    expect(victim.get_by_role("article").nth(1)).to_contain_text("The attack fails")


def test_the_admin_page_opens_only_for_its_role(visit):
    user, admin = visit(), visit()
    sign_up(user, "Dorothy")
    assert user.request.get("/admin").status == 403
    sign_up(admin, "Emmy", is_admin=True)
    admin.get_by_role("link", name="Admin").click()
    expect(heading(admin)).to_have_text("All sessions")
    admin.get_by_role("listitem").filter(has_text="Dorothy").get_by_role("button", name="End").click()
    expect(admin.get_by_role("status")).to_have_text("That session has ended.")
    user.reload()
    expect(heading(user)).to_have_text("Hello, stranger")


def test_the_receipt_shows_each_decision(visit):
    page = visit()
    page.get_by_role("link", name="Inside", exact=True).click()
    for button, said in {
        "Read": "nothing to write, nothing to send",
        "Change deep inside": "The session changed, so it was written. The browser already has its cookie.",
        "Change and change back": "nothing to write, nothing to send",
        "Get a new ID": "The session has a new ID, so the browser gets a new cookie.",
        "End and write": "A new session was written, so the browser gets its cookie.",
    }.items():
        page.get_by_role("button", name=button, exact=True).click()
        expect(receipt(page)).to_contain_text(said)
    page.get_by_role("link", name="Leave it alone").click()
    expect(receipt(page)).to_contain_text("0 store calls")


def test_a_cookie_can_be_kept_after_the_browser_is_closed_and_be_forgotten_again(visit):
    page = visit()
    page.goto("/inside")
    assert cookie_of(page.context)["expires"] == -1
    page.get_by_role("button", name="Keep or forget").click()
    expect(receipt(page)).to_contain_text("Its cookie has changed too.")
    assert cookie_of(page.context)["expires"] > 0
    page.get_by_role("button", name="Keep or forget").click()
    expect(receipt(page)).to_contain_text("Its cookie has changed too.")
    assert cookie_of(page.context)["expires"] == -1


def test_the_clocks_run_down_and_then_the_session_has_ended_and_the_page_says_so(visit):
    for demo in started(IDLE_TIMEOUT="4"):
        page = visit(demo.url)
        sign_up(page, "Grace")
        page.goto("/timeouts")
        idle, absolute = page.locator("time").all()
        expect(idle).to_have_text(re.compile(r"00:00:0[1-4]"))
        expect(absolute).to_have_text(re.compile(r"07:59:\d\d"))
        expect(idle).to_have_text("expired: click anywhere")
        page.get_by_role("link", name="Devices", exact=True).click()
        expect(heading(page)).to_have_text("Sign in")
        expect(page.get_by_role("status")).to_contain_text("it was not used for too long")
        page.close()  # before its server ends


def test_a_form_without_its_token_is_refused(visit):
    page = visit()
    page.goto("/cart")
    page.locator("[name=csrf_token]").evaluate_all("fields => fields.forEach(field => field.remove())")
    page.get_by_role("button", name="Add one bread").click()
    expect(heading(page)).to_have_text("Bad Request")


def test_the_site_can_be_used_with_the_keyboard(visit):
    page = visit()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    page.goto("/sign-up")
    page.get_by_label("Name").focus()
    page.keyboard.type("Hedy")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(heading(page)).to_have_text("Hello, Hedy")


def test_pages_fit_a_phone_and_load_nothing_from_other_hosts(visit, demo):
    page = visit(viewport={"width": 320, "height": 640})
    watch = Watch(page.context)
    sign_up(page, "Ida", is_admin=True)
    for path in PAGES:
        page.goto(path)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 320, path
    assert watch.hosts == {demo.url.split("/")[2]}


# The cookie.


def test_scripts_do_not_see_the_cookie(visit):
    page = visit()
    assert cookie_of(page.context)["httpOnly"]
    assert page.evaluate("() => document.cookie") == ""


def test_a_form_on_another_site_does_not_send_the_cookie_and_a_link_does(visit, demo):
    page = visit()
    sign_up(page, "Joan")
    elsewhere = demo.url.replace("127.0.0.1", "localhost") + "elsewhere"
    form = f'<form method="post" action="{demo.url}cart"><button>Win a prize</button></form>'
    body = f'{form}<a href="{demo.url}">Read on</a>'
    page.route(elsewhere, lambda route: route.fulfill(content_type="text/html", body=body))

    page.goto(elsewhere)
    with page.expect_request(f"{demo.url}cart") as posted:
        page.get_by_role("button", name="Win a prize").click()
    expect(heading(page)).to_have_text("Bad Request")
    assert "cookie" not in posted.value.all_headers()

    page.goto(elsewhere)
    with page.expect_request(demo.url) as followed:
        page.get_by_role("link", name="Read on").click()
    expect(heading(page)).to_have_text("Hello, Joan")
    assert "cookie" in followed.value.all_headers()


def test_security_32_a_sign_out_removes_the_cookie_and_the_storage_of_the_site(visit):
    page = visit()
    sign_up(page, "Kathleen")
    page.evaluate("() => localStorage.setItem('draft', 'a letter')")
    value = cookie_of(page.context)["value"]
    sign_out(page)
    assert cookie_of(page.context)["value"] != value
    assert page.evaluate("() => localStorage.getItem('draft')") is None


def test_the_back_button_shows_no_private_page_after_a_sign_out(visit):
    page = visit()
    sign_up(page, "Lise")
    page.get_by_role("link", name="Devices", exact=True).click()
    expect(heading(page)).to_have_text("Your devices")
    sign_out(page)
    page.go_back()
    expect(heading(page)).to_have_text("Sign in")
    page.go_back()
    expect(heading(page)).to_have_text("Hello, stranger")


def test_the_back_button_reloads_a_page_whose_session_was_ended_elsewhere(visit):
    desk, phone = visit(), visit()
    sign_up(desk, "Mary")
    sign_in(phone, "Mary")
    phone.goto("/devices")
    phone.goto("/inside/untouched")
    desk.goto("/devices")
    desk.get_by_role("button", name="End all others").click()
    expect(desk.get_by_role("status")).to_be_visible()
    phone.go_back()
    expect(heading(phone)).to_have_text("Sign in")


@pytest.fixture
def serve_tls(tmp_path) -> Iterator[Callable[[str], str]]:
    with ExitStack() as stack:

        def serve(app: str) -> str:
            server = TLSGunicorn(app, "--threads=4", STORE=f"sqlite:///{tmp_path / 'sessions.db'}")
            stack.callback(server.stop)
            return str(server.start().url)

        yield serve


def test_a_host_cookie_is_set_and_removed_over_tls(serve_tls, visit, tmp_path):
    page = visit(
        serve_tls(f"demo_flask.app:create_app(SESSION_COOKIE_NAME='__Host-sid', USERS='{tmp_path / 'users.db'}')")
    )
    sign_up(page, "Maria")
    cookie = cookie_of(page.context)
    assert (cookie["name"], cookie["secure"], cookie["path"]) == ("__Host-sid", True, "/")
    page.goto("/live")
    page.get_by_role("button", name="Count").click()
    expect(page.locator("#count")).to_have_text("1")
    sign_out(page)


def test_a_partitioned_host_cookie_is_separate_for_each_site_and_removed_from_each(serve_tls, visit):
    url = serve_tls("tests.apps.framed:app")
    page = visit(url)
    framing = url.replace("127.0.0.1", "localhost") + "/framing"

    def count_framed(action: str = "count") -> str:
        page.goto(f"{framing}?{action}")
        return page.frame_locator("iframe").locator("body").inner_text()

    def count_alone() -> str:
        page.goto("/count")
        return page.locator("body").inner_text()

    def cookies() -> int:
        return len(page.context.cookies())

    assert '"count": 1' in count_framed()
    assert '"count": 2' in count_framed()
    assert '"count": 1' in count_alone()
    assert cookies() == 2
    count_framed("logout")
    assert cookies() == 1
    assert '"count": 2' in count_alone()
    page.goto("/logout")
    assert cookies() == 0
