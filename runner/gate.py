"""Who may call the web process: its rules about `Host`, `Origin` and the token. Pure.

It listens on loopback, but that does not keep a browser out: any page that a developer opens can send a form to
127.0.0.1, or rename itself to that address by its own DNS.
"""

import hmac
from collections.abc import Callable, Mapping
from typing import NamedTuple

from runner.ids import shown
from runner.settings import Settings

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
OPEN_PATHS = ("/health", "/api/v1/health")  # for probes, which have no token


class Refusal(NamedTuple):
    """Why a request is not let in: an HTTP status and a sentence."""

    status: int
    detail: str


Refuse = Callable[[Settings, str, str, Mapping[str, str]], Refusal | None]


def refuse_stranger(settings: Settings, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
    """Why this request is not let in; None if it is. The names of `headers` are lower-case.

    400 for a `Host` that is not ours, 403 for a change that a page of another origin asks for.
    """
    host = headers.get("host", "")
    if not _is_known(host_name(host), settings.allowed_hosts):
        expected = ", ".join(settings.allowed_hosts)
        return Refusal(400, f"The Host '{shown(host)}' is not served here; expected is one of {expected}.")
    origin = headers.get("origin")
    if origin is not None and method not in SAFE_METHODS and not _is_trusted(origin, host, settings):
        return Refusal(403, f"Pages of '{shown(origin)}' may not change anything here; CORS_ORIGINS says which may.")
    return None


def refuse_without_token(settings: Settings, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
    """The same for the token: 401 for a call without it, if there is one in the settings."""
    if not settings.api_token or path in OPEN_PATHS or _has_token(headers, settings.api_token):
        return None
    return Refusal(401, "This call needs the header 'Authorization: Bearer TOKEN', with the server's API_TOKEN.")


def host_name(host: str) -> str:
    """The name in a `Host` header, without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and (port.isdigit() or not port) else host).lower()


def _is_known(name: str, allowed: tuple[str, ...]) -> bool:
    return "*" in allowed or name in allowed


def _is_trusted(origin: str, host: str, settings: Settings) -> bool:
    """Whether the origin is configured, or is this server itself (its own page with the documentation)."""
    return origin in settings.cors_origins or origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _has_token(headers: Mapping[str, str], token: str) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
