"""Probes: does the process live, and would a run be executed now?"""

from starlette.requests import Request
from starlette.responses import Response

from jobs.api.responses import JSONResponse, services
from jobs.status.readiness import Health, check_readiness


async def health(request: Request) -> Response:
    """Say that the process lives."""
    return JSONResponse(Health("ok"))


async def ready(request: Request) -> Response:
    """Say whether a run would be executed now: 503 with what is missing if not."""
    found = services(request)
    readiness = await check_readiness(found.reading, found.settings.queue_name)
    return JSONResponse(readiness, status_code=503 if readiness.detail else 200)
