"""Who may call the web process: the rules about `Host`, `Origin` and the token, and the middleware that applies them.

It listens on loopback, but that does not keep a browser out: any page that a developer opens can send a form to
127.0.0.1, or rename itself to that address by its own DNS.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from itsdangerous import BadData, TimestampSigner
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.api.responses import API_PREFIX, JSONResponse
from runner.errors import printable
from runner.settings import Settings

SIGN_IN = "/ui/sign-in"
STATIC = "/ui/static/"  # below it are the files of all pages, that of signing in too
SESSION_SECONDS = 12 * 60 * 60
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
CORS_REQUEST_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Range")
CORS_RESPONSE_HEADERS = ("Location", "ETag", "X-Next-Offset", "Content-Range", "Accept-Ranges")
CORS_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")  # the last three get 405, whose sentence must be readable


class Refusal(NamedTuple):
    """Why a request is not let in: an HTTP status and a sentence."""

    status: int
    detail: str


Check = Callable[[Settings, str, str, Headers], Refusal | None]


def check_host_and_origin(settings: Settings, method: str, path: str, headers: Headers) -> Refusal | None:
    """Why this request is not let in; None if it is.

    400 for a `Host` that is not ours, 403 for a change that a page of another origin asks for.
    """
    if len(headers.getlist("host")) > 1:
        return Refusal(400, "A request must have one Host header, got more.")
    host = headers.get("host", "")
    if not _is_allowed(host_name(host), settings.allowed_hosts):
        expected = ", ".join(settings.allowed_hosts)
        return Refusal(400, f"Host must be one of {expected}, got '{printable(host)}'; ALLOWED_HOSTS says which.")
    origin = headers.get("origin")
    if origin == "null" and path == SIGN_IN:  # a form without a referrer; whoever sends it has to know the token
        return None
    if origin is not None and method not in SAFE_METHODS and not _is_trusted(origin, host, settings):
        return Refusal(403, f"Pages of '{printable(origin)}' may change nothing here; CORS_ORIGINS says which may.")
    return None


def check_token(settings: Settings, method: str, path: str, headers: Headers) -> Refusal | None:
    """The same for the token: 401 for a call with neither it nor the cookie of a browser that signed in with it, if
    there is one in the settings."""
    if not settings.api_token or path in open_paths(settings) or path.startswith(STATIC):
        return None
    if _has_token(headers, settings) or has_session(headers, settings):
        return None
    return Refusal(401, "This call needs the header 'Authorization: Bearer TOKEN', with the server's API_TOKEN.")


def open_paths(settings: Settings) -> tuple[str, ...]:
    """What needs no token: probes, the command line as a file, and metrics if the settings say so."""
    plain = ("/health", "/client.pyz", *(("/metrics",) if settings.metrics == "open" else ()))
    return (*plain, *(f"{API_PREFIX}{path}" for path in plain), SIGN_IN)


def is_token(text: str, settings: Settings) -> bool:
    """Whether this text (from outside) is the server's API_TOKEN; takes as long if it is not."""
    return hmac.compare_digest(text.strip().encode(), settings.api_token.encode())


def session_cookie(settings: Settings) -> str:
    """The name of the cookie of a browser that signed in. Two servers on one host would share it without the port."""
    return f"bugninja_session_{settings.port}"


def new_session(settings: Settings) -> str:
    """The value of that cookie: valid for SESSION_SECONDS, and only as long as the server has the same API_TOKEN."""
    return _signer(settings).sign("session").decode()


def has_session(headers: Headers, settings: Settings) -> bool:
    """Whether the request comes from a browser that signed in."""
    value = cookie_parser(headers.get("cookie", "")).get(session_cookie(settings), "")
    try:
        _signer(settings).unsign(value, max_age=SESSION_SECONDS)
    except BadData:
        return False
    return True


def _signer(settings: Settings) -> TimestampSigner:
    return TimestampSigner(
        settings.api_token, salt="bugninja-runner session", key_derivation="hmac", digest_method=hashlib.sha256
    )


def host_name(host: str) -> str:
    """The name in a `Host` header, without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and (port.isdigit() or not port) else host).lower()


def _is_allowed(name: str, allowed: tuple[str, ...]) -> bool:
    return "*" in allowed or name in allowed


def _is_trusted(origin: str, host: str, settings: Settings) -> bool:
    """Whether the origin is configured, or is this server itself (its own page with the documentation)."""
    return origin in settings.cors_origins or origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _has_token(headers: Headers, settings: Settings) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and is_token(given, settings)


class Guard:
    """Middleware that lets in only the requests that `check` does not refuse."""

    def __init__(self, app: ASGIApp, settings: Settings, check: Check) -> None:
        self.app, self.settings, self.check = app, settings, check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self.check(self.settings, scope["method"], scope["path"], headers)
        if refusal is None:
            await self.app(scope, receive, send)
        elif refusal.status == 401 and self.settings.ui and "text/html" in headers.get("accept", ""):
            await RedirectResponse(sign_in_url(scope), 303)(scope, receive, send)
        else:
            more = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
            await JSONResponse({"detail": refusal.detail}, refusal.status, more)(scope, receive, send)


def sign_in_url(scope: Scope) -> str:
    """Where a person signs in, and goes on with this request."""
    query = scope["query_string"].decode("latin-1")
    return f"{SIGN_IN}?next={quote(scope['path'] + (f'?{query}' if query else ''), safe='')}"


class JSONCORSMiddleware(CORSMiddleware):
    """Starlette's, whose refusals are JSON, too."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a page of this origin may do, or 400 with a sentence."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        detail = f"{bytes(response.body).decode()}; CORS_ORIGINS says which pages may read the answers."
        return JSONResponse({"detail": detail}, response.status_code)


def guard(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The application behind all rules. They are around its answers to its own faults, too."""
    with_cors = JSONCORSMiddleware(
        Guard(app, settings, check_token),
        allow_origins=settings.cors_origins,
        allow_methods=CORS_METHODS,
        allow_headers=CORS_REQUEST_HEADERS,
        expose_headers=CORS_RESPONSE_HEADERS,
    )
    return Guard(with_cors, settings, check_host_and_origin)
