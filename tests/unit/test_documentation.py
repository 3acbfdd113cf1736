"""README and docs/ say what is true."""

import json
import re

import msgspec

from jobs.api.routes import ENDPOINTS
from jobs.page.routes import PAGES, REPORTS
from jobs.run.document import RunDocument
from tests.stack import ROOT


def test_the_documentation_names_only_routes_that_exist() -> None:
    routes = {(op.method, op.path.replace(":path", "")) for op, _ in (*ENDPOINTS, *REPORTS)}
    routes |= {("GET", path) for path in PAGES}
    named = [
        (method, path)
        for file in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for method, path in re.findall(r"`(GET|POST) (/[^`? ]*)", file.read_text())
    ]
    assert len(named) > 10
    assert not set(named) - routes - {("GET", "/docs"), ("GET", "/openapi.json")}


def test_the_run_document_in_the_documentation_has_the_fields_of_a_run_document() -> None:
    documentation = (ROOT / "docs" / "rest.md").read_text()
    example = json.loads(documentation.split("```json\n")[1].split("```")[0])
    assert list(example) == [field.name for field in msgspec.structs.fields(RunDocument)]
