"""What the server answers to whom, and how much of a request it reads."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel

from app.command import _token
from app.gate import MOST_READ, Gate
from app.web import serve

TOKEN, COOKIE = "0123456789abcdef", "annotate_k"


class Text(BaseModel):
    """What the application behind the gate is sent."""

    text: str


def client_of(token: str | None = TOKEN) -> TestClient:
    app = FastAPI()
    app.add_middleware(Gate, token=token, cookie=COOKIE)
    app.get("/")(lambda: "page")
    app.get("/api/project")(lambda: "project")
    app.put("/text")(_length)
    return TestClient(app, base_url="http://localhost")


def _length(text: Text) -> int:
    return len(text.text)


@pytest.mark.parametrize("path", ["/", "/api/project", "/static/main.js", "/openapi.json", "/nothing"])
@pytest.mark.parametrize(
    "told",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer 0123456789abcdeg"},
        {"Authorization": "Bearer 0123456789abcdé".encode()},
        {"Cookie": f"{COOKIE}=other; other={TOKEN}"},
    ],
)
def test_who_does_not_know_the_token_is_told_where_to_find_it(path, told):
    for ending in ("", "?token=", "?token=0123456789abcde"):
        response = client_of().get(f"{path}{ending}", headers=told)
        assert response.status_code == 403
        assert "open the address that it has printed" in response.json()["detail"]


def test_the_address_gives_a_cookie_that_no_script_reads_and_no_other_page_sends():
    client = client_of()
    given = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert given.status_code == 303 and given.headers["location"] == "/"
    words = {word.strip().lower() for word in given.headers["set-cookie"].split(";")}
    assert words == {f"{COOKIE}={TOKEN}", "httponly", "path=/", "samesite=strict"}
    assert client.get("/").json() == "page" and client.get("/api/project").json() == "project"
    assert client_of().get(f"/api/project?token={TOKEN}").status_code == 403  # of the page's address alone


def test_a_program_sends_the_token_as_a_header():
    assert client_of().get("/api/project", headers={"Authorization": f"Bearer {TOKEN}"}).json() == "project"


def test_a_page_that_is_open_goes_on_when_the_server_has_another_token():
    """The new address is opened in another tab: the cookie has the same name."""
    again, cookies = client_of("fedcba9876543210"), client_of().get(f"/?token={TOKEN}", follow_redirects=False).cookies
    again.cookies.update(cookies)
    assert again.get("/api/project").status_code == 403
    again.get("/?token=fedcba9876543210")
    assert again.get("/api/project").status_code == 200


@pytest.mark.parametrize("token", [TOKEN, None])
@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_other_pages_are_refused_also_with_the_token(token, site, status):
    headers = {"Authorization": f"Bearer {TOKEN}", "Sec-Fetch-Site": site}
    response = client_of(token).get("/api/project", headers=headers)
    assert response.status_code == status
    assert status == 200 or "Another page has asked for this" in response.json()["detail"]


def test_every_answer_keeps_other_pages_out():
    for client in (client_of(), client_of(None)):
        for path in ("/", "/api/project", "/nothing", f"/?token={TOKEN}"):
            headers = client.get(path, follow_redirects=False).headers
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert headers["Content-Security-Policy"] == "default-src 'self'; frame-ancestors 'none'"
            assert (headers["Referrer-Policy"], headers["X-Content-Type-Options"]) == ("no-referrer", "nosniff")


def test_a_long_request_is_refused_before_it_is_read():
    """By its length; in chunks, when there are too many."""
    read = []

    def chunks(count: int) -> Iterator[bytes]:
        yield b'{"text": "'
        for number in range(count):
            read.append(number)
            yield b"a" * 2**20
        yield b'"}'

    client, sent = client_of(None), {"Content-Type": "application/json"}
    assert client.put("/text", content=chunks(15), headers=sent).json() == 15 * 2**20
    known = sent | {"Content-Length": str(MOST_READ + 1)}
    for content, headers in ((b"{}", known), (chunks(20), sent), (b"a" * (MOST_READ + 1), sent)):
        response = client.put("/text", content=content, headers=headers)
        assert response.status_code == 413, response.text
        assert "more than 16 MiB" in response.json()["detail"]


def test_no_token_must_be_written_out_and_is_warned_of(monkeypatch, caplog):
    caplog.set_level("INFO")
    assert _token("none") is None and "--token none: every user and program" in caplog.text
    caplog.clear()
    assert _token(TOKEN) == TOKEN and len({_token(None), _token(None)}) == 2 and len(_token(None)) >= 32
    assert not caplog.text
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    for token in (TOKEN, None):
        serve(FastAPI(), 0, token)
        assert (f"/?token={TOKEN} (Ctrl-C ends)" in caplog.text) == bool(token)
        caplog.clear()
