"""Templates -> HTML. All text is escaped, whatever it is; what is HTML already was made here."""

import platform
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import wraps
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from anyio import to_thread
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from jobs.api.errors import status_of
from jobs.api.guard import STATIC, has_session
from jobs.api.responses import NO_SNIFFING, services
from jobs.run.state import RunType, State, Trigger
from runner.errors import RunnerError

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    **NO_SNIFFING,
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": CONTENT_POLICY,
    "Referrer-Policy": "no-referrer",
}
VERSIONS = {
    "version": version("bugninja-runner"),
    "rq_version": version("rq"),
    "python_version": platform.python_version(),
}

STATES: Mapping[State, tuple[str, str]] = {
    State.PENDING: ("○", "pending"),
    State.RUNNING: ("▶", "running"),
    State.FINISHED: ("✓", "passed"),
    State.FAILED: ("✕", "failed"),
    State.ERROR: ("!", "error"),
}
"""How each state is shown: an icon and a word."""
TRIGGERS: Mapping[Trigger, str] = {
    Trigger.API: "REST",
    Trigger.UI: "page",
    Trigger.BATCH: "batch",
    Trigger.RERUN: "rerun",
    Trigger.CLI: "by hand",
}
RUN_TYPES: Mapping[RunType, str] = {
    RunType.AGENTIC: "agent",
    RunType.REPLAY: "replay",
    RunType.REPLAY_WITH_HEALING: "replay with healing",
}


def short(text: str | None, length: int = 300) -> str:
    """At most so many characters of the text; one more says that there are others."""
    text = text or ""
    return text if len(text) <= length else f"{text[:length]}…"


def seconds(value: float | None) -> str:
    """A duration for people."""
    if value is None:
        return "–"
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def percent(value: float | None) -> str:
    """A part of 1."""
    return "–" if value is None else f"{100 * value:.0f} %"


def moment(value: datetime) -> str:
    """A time as `datetime` of HTML's element `time` has it."""
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def clock(value: datetime) -> str:
    """A time for people; a script makes their own of it."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


environment = Environment(
    loader=PackageLoader("jobs.page"),
    auto_reload=False,
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.filters.update(short=short, seconds=seconds, percent=percent, moment=moment, clock=clock)
environment.globals.update(STATES=STATES, TRIGGERS=TRIGGERS, RUN_TYPES=RUN_TYPES, STATIC=STATIC.rstrip("/"), **VERSIONS)


def element(template: str, macro: str, *arguments: Any) -> Markup:
    """What a macro of a template makes of these arguments."""
    return Markup(getattr(environment.get_template(template).module, macro)(*arguments).strip())  # noqa: S704


def render_stream(template: str, **values: Any) -> Iterator[str]:
    """The template with these values, in parts."""
    return environment.get_template(template).generate(**values)


async def page(request: Request, template: str, code: int = 200, **values: Any) -> Response:
    """A page of the web process, with this HTTP status. It is rendered in a thread."""
    settings = services(request).settings
    signed_in = bool(settings.api_token) and has_session(request.headers, settings)
    values |= {"path": request.url.path, "signed_in": signed_in}
    text = await to_thread.run_sync(lambda: environment.get_template(template).render(values))
    return HTMLResponse(text, code, HEADERS)


def page_or_error(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The handler, whose errors are pages, too."""

    @wraps(handler)
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except RunnerError as error:
            code = status_of(error)
            return await page(request, "error.html", code, title=HTTPStatus(code).phrase, detail=str(error))

    return endpoint
