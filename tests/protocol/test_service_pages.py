"""What a service says of itself: its OpenAPI document and its page, and the list of all services."""

import re

from serving import Served


def test_the_document_names_every_method(services: Served) -> None:
    answer = services.http.get("/typed/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    assert (document["info"]["title"], document["info"]["description"]) == ("typed", "Says what it was sent.")
    methods = {(method, path) for path, item in document["paths"].items() for method in item}
    assert ("post", "/typed/add") in methods
    assert ("get", "/typed/rooms/{number}/beds/{bed}") in methods
    assert ("put", "/typed/put") in methods
    assert len(methods) == 18
    add = document["paths"]["/typed/add"]["post"]
    assert add["summary"] == "The sum."
    assert set(add["requestBody"]["content"]) == {
        "application/json",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
    }


def test_the_page_and_its_assets_come_from_this_engine(services: Served) -> None:
    page = services.http.get("/typed/docs")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = page.body.decode()
    assets = re.findall(r'(?:src|href)="(/[^"]+)"', text)
    assert len(assets) >= 3
    for path in assets:
        answer = services.http.get(path)
        assert answer.status == 200, path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].startswith(("text/javascript", "text/css"))
        assert len(answer.body) > 100
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text), "nothing comes from elsewhere"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe-inline" not in page.headers["content-security-policy"].partition("script-src")[2].partition(";")[0]


def test_no_file_beside_the_assets_is_served(services: Served) -> None:
    for name in ("index.html", "..%2fpage.py", "../page.py", "%2e%2e/page.py", "swagger-ui.css/../../page.py", ""):
        answer = services.http.get(f"/typed/docs/{name}")
        assert answer.status in (404, 405), name
        assert b"swagger_ui" not in answer.body


def test_the_list_of_services_leads_to_each(services: Served) -> None:
    page = services.http.get("/docs")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for name in ("typed", "raw", "living"):
        assert f'href="/{name}/docs"' in page.body.decode()
        assert services.http.get(f"/{name}/docs").status == 200
        assert services.http.get(f"/{name}/openapi.json").json()["info"]["title"] == name
