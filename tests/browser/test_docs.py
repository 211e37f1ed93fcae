"""The pages of services, as people see them."""

from pathlib import Path

from PIL import Image

from browser.chromium import Page
from serving import Served

STATUS = ".live-responses-table tbody .response-col_status"
OPERATIONS = {"feeds": 5, "orders": 7, "photos": 10}


def address(served: Served, path: str) -> str:
    return f"http://127.0.0.1:{served.port}{path}"


def try_out(served: Served, page: Page, service: str, method: str) -> None:
    page.open(address(served, f"/{service}/docs#/{service}/{method}"))
    page.click(".try-out__btn")


def status_of(page: Page) -> str:
    page.click("button.execute")
    return str(page.wait_for(f"document.querySelector({STATUS!r})?.innerText")).strip()


def test_a_page_shows_every_method_and_asks_no_other_host(served: Served, page: Page) -> None:
    for service, operations in OPERATIONS.items():
        page.open(address(served, f"/{service}/docs"))
        page.wait_for("document.querySelector('.models') !== null")
        assert page.evaluate("document.querySelectorAll('.opblock').length") == operations
        assert page.evaluate("document.querySelector('.title').innerText").startswith(service)
        asked = [name for name in page.requested() if not name.startswith("data:")]
        assert all(name.startswith(address(served, f"/{service}/")) for name in asked), asked
        assert page.complaints() == []


def test_a_page_can_ask_no_other_host(served: Served, page: Page) -> None:
    page.open(address(served, "/orders/docs"))
    assert page.evaluate("fetch('http://127.0.0.2:1/').then(() => 'reached', () => 'refused')") == "refused"
    assert any("Content Security Policy" in complaint for complaint in page.complaints())


def test_files_are_chosen_and_images_shown(served: Served, page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), "red").save(tmp_path / "red.png")
    try_out(served, page, "photos", "describe")
    page.choose("input[type=file]", tmp_path / "red.png")
    assert status_of(page) == "200"
    assert '"width": 3' in page.wait_for("document.querySelector('.live-responses-table .highlight-code')?.innerText")
    try_out(served, page, "photos", "invert")
    page.choose("input[type=file]", tmp_path / "red.png")
    assert status_of(page) == "200"
    assert page.wait_for("document.querySelector('.live-responses-table img')?.naturalWidth") == 3
    assert page.complaints() == []


def test_what_a_page_suggests_is_accepted(served: Served, page: Page) -> None:
    for service, method in [("orders", "place"), ("orders", "search"), ("orders", "weigh"), ("feeds", "words")]:
        try_out(served, page, service, method)
        assert (method, status_of(page)) == (method, "200")
        assert page.complaints() == []


def test_the_list_of_services_leads_to_their_pages(served: Served, page: Page) -> None:
    page.open(address(served, "/docs"))
    assert page.evaluate("[...document.querySelectorAll('h2')].map(title => title.innerText)") == sorted(OPERATIONS)
    page.follow("a[href='/photos/docs']")
    page.wait_for("document.querySelector('.opblock') !== null")
    assert page.complaints() == []
