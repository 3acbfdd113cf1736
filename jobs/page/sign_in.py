"""Sign in with the API_TOKEN, so that pages and pictures work in a browser; and out again."""

import re
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from jobs.api.guard import SESSION_SECONDS, SIGN_IN, has_session, is_token, new_session, session_cookie
from jobs.api.responses import JSONResponse, services
from jobs.api.runs import read_body
from jobs.page.templates import HEADERS, page
from runner.errors import NotFound
from runner.settings import Settings

FORM = "application/x-www-form-urlencoded"
PLACE = re.compile(r"/(?![/\\])[!-\[\]-~]{0,2000}")  # a path of this server, with its query
WRONG = "This is not the server's API_TOKEN."


async def show_sign_in(request: Request) -> Response:
    """The form; a browser that is signed in goes on at once."""
    settings = settings_with_token(request)
    place = checked_place(request.query_params.get("next"))
    if has_session(request.headers, settings):
        return RedirectResponse(place, 303, HEADERS)
    return await page(request, "sign_in.html", place=place, problem=None)


async def sign_in(request: Request) -> Response:
    """Set the cookie if the token is right, and go on to the page that was asked for."""
    settings = settings_with_token(request)
    fields = parse_qs((await read_body(request, FORM)).decode(errors="replace"))
    place = checked_place(fields.get("next", [""])[0])
    if not is_token(fields.get("token", [""])[0], settings):
        return await page(request, "sign_in.html", 401, place=place, problem=WRONG)
    response = RedirectResponse(place, 303, HEADERS)
    response.set_cookie(
        session_cookie(settings),
        new_session(settings),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


async def sign_out(request: Request) -> Response:
    """Take the cookie away."""
    response = JSONResponse({})
    response.delete_cookie(session_cookie(services(request).settings), httponly=True, samesite="strict")
    return response


def settings_with_token(request: Request) -> Settings:
    """The settings of the server. Raises `NotFound` if it needs no token."""
    settings = services(request).settings
    if not settings.api_token:
        raise NotFound(f"There is nothing to sign in to: {SIGN_IN} is for servers with an API_TOKEN.")
    return settings


def checked_place(text: str | None) -> str:
    """Where to go on, if that is on this server; else the first page."""
    return text if text and PLACE.fullmatch(text) else "/"
