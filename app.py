"""The web process: `create_app` for those who embed it, `main` for the Procfile."""

import os
import sys
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.types import ASGIApp

from jobs.api.errors import EXCEPTION_HANDLERS
from jobs.api.guard import guard
from jobs.api.routes import ENDPOINTS, describe, routes
from jobs.page.routes import REPORTS, page_routes
from jobs.queue.connection import CHECKS
from jobs.server.server import make_lifespan, serve
from jobs.services import Services
from runner.errors import SettingsError
from runner.log import configure_logging
from runner.project.run_files import project_files
from runner.settings import Settings, read_settings


def create_app(settings: Settings | None = None, connect: Callable[[Settings], Services] = Services.connect) -> ASGIApp:
    """The application; `connect` makes its services when it starts, and they are closed when it ends.

    Without settings it takes those of the environment, as for `uvicorn app:create_app --factory`.
    """
    settings, endpoints = settings or prepare(), (*ENDPOINTS, *REPORTS)
    every, lifespan = [*routes(endpoints), *page_routes(settings)], make_lifespan(settings, connect)
    app = Starlette(routes=every, lifespan=lifespan, exception_handlers=dict(EXCEPTION_HANDLERS))
    app.state.openapi = describe(settings, endpoints)
    return guard(app, settings)


def prepare() -> Settings:
    """The settings of the environment, with this process set up for them. Exits with a sentence for bad ones."""
    try:
        settings = read_settings(os.environ, CHECKS)
        project_files(settings)
    except SettingsError as error:
        sys.exit(str(error))
    configure_logging(settings.log_level)
    return settings


def main() -> None:
    """Serve until a signal comes. Exits with a sentence if the settings cannot be used or the port is taken."""
    settings = prepare()
    try:
        started = serve(create_app(settings), settings)
    except SettingsError as error:
        sys.exit(str(error))
    if not started:
        sys.exit("The web process could not start; its log says why.")


if __name__ == "__main__":
    main()
