"""The documentation of the API: the OpenAPI document, and a page that shows it."""

from openapi_ui_bundles import swagger_ui
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from jobs.api.responses import NO_SNIFFING, JSONResponse

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Bugninja Runner</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "openapi.json", dom_id: "#docs", validatorUrl: null})</script>
</body>
</html>
"""


async def docs(request: Request) -> Response:
    """Show this documentation."""
    return HTMLResponse(PAGE, headers=NO_SNIFFING)


async def openapi_json(request: Request) -> Response:
    """Show the OpenAPI document of this server."""
    return JSONResponse(request.app.state.openapi)


def doc_routes() -> list[BaseRoute]:
    """The routes of the documentation and of the files that its page needs."""
    assets = StaticFiles(directory=swagger_ui.static_path)
    return [Route("/openapi.json", openapi_json), Route("/docs", docs), Mount("/docs/assets", assets)]
