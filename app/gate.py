"""Who is answered, and how much is read of a request, before the application gets it."""

import secrets
from collections.abc import Mapping

from fastapi import HTTPException
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_READ = 16 * 2**20  # bytes of a request; the mask of a photograph's vessels has a tenth of that
ELSEWHERE = ("cross-site", "same-site")  # Sec-Fetch-Site of another page, also of one of another port of this machine
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
UNKNOWN = "This server only answers browsers with its token: open the address that it has printed in a new tab."
FOREIGN = "Another page has asked for this: open the address that the server has printed yourself."
TOO_LONG = f"The request has more than {MOST_READ // 2**20} MiB, which no mask of a structure needs: it is not read."


class Gate:
    """ASGI middleware that only answers requests with the token; its answers are of no use to pages of other sites.

    The address of the page with `?token=` is exchanged for a cookie; a program sends `Authorization: Bearer TOKEN`.

    Args:
        app: that is behind it.
        token: that must be known; None for no token.
        cookie: its name, one for each project, as all ports of a machine share cookies.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, cookie: str) -> None:
        self.app, self.token, self.cookie = app, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = self._own_answer(Request(scope)) or self.app
        await answer(scope, _limited(receive), _with_headers(send))

    def _own_answer(self, request: Request) -> Response | None:
        """The refusal of a request, or the exchange of the token; None for what the application answers."""
        if request.headers.get("Sec-Fetch-Site") in ELSEWHERE:
            return _refusal(403, FOREIGN)
        if self.token and request.url.path == "/" and self._is_known(request.query_params.get("token")):
            response = RedirectResponse("/", 303)
            response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
            return response
        if self.token and not any(map(self._is_known, self._told(request))):
            return _refusal(403, UNKNOWN)
        if _length(request.headers) > MOST_READ:
            return _refusal(413, TOO_LONG)
        return None

    def _told(self, request: Request) -> tuple[str | None, str]:
        """What a request gives as token."""
        return request.cookies.get(self.cookie), request.headers.get("Authorization", "").removeprefix("Bearer ")

    def _is_known(self, told: str | None) -> bool:
        """Whether this is the token; the time that it takes tells nothing of it."""
        return secrets.compare_digest((told or "").encode(), self.token.encode())


def _refusal(status: int, told: str) -> JSONResponse:
    return JSONResponse({"detail": told}, status)


def _length(headers: Mapping[str, str]) -> int:
    """Bytes of a request as far as it says; 0 for one in chunks."""
    told = headers.get("Content-Length", "")
    return int(told) if told.isascii() and told.isdigit() else 0


def _limited(receive: Receive) -> Receive:
    """Reads no more of a request, whatever it says of its length."""
    read = 0

    async def receive_some() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MOST_READ:
            raise HTTPException(413, TOO_LONG)
        return message

    return receive_some


def _with_headers(send: Send) -> Send:
    async def send_some(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return send_some
