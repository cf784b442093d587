"""The OpenAPI document, and a page that shows it, served from this process alone.

The files of Swagger UI come out of an installed wheel. FastAPI's own page loads them from a CDN, which a machine
without internet access cannot reach and a careful operator does not want. The page runs no inline script, so its
content security policy can forbid every other origin.
"""

import json
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.routing import APIRoute

from dpiqa.http_api.common import Problem
from dpiqa.types import KeyScope

from .dependencies import get_administrator, get_event_source, get_reader, get_scraper, get_submitter
from .errors import MEDIA_TYPE
from .examples import EXAMPLES

PACKAGE = "dpiqa.api"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: Served name -> package that holds it, path inside, media type.
ASSETS = {
    "swagger-ui.css": ("fastapi_swagger", "resources/swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": ("fastapi_swagger", "resources/swagger-ui-bundle.js", "text/javascript"),
    "favicon.png": ("fastapi_swagger", "resources/favicon-32x32.png", "image/png"),
    "start.js": (PACKAGE, "static/start.js", "text/javascript"),
}

_REF = "#/components/schemas/{model}"
#: Errors of any request, with their meaning.
_COMMON = {
    "401": "The API key is missing or wrong.",
    "403": "The scopes of the key, or its limit to buckets and prefixes, do not permit this.",
    "422": "The request does not fit: `errors` names the fields.",
    "429": "The key has, or sends, more than it may: wait as long as `Retry-After` says.",
    "503": "A part that the request needs does not answer, or too much work waits already.",
    "default": "Any other error.",
}

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
def openapi(request: Request) -> Response:
    """Describe the API. Its own route, so that it is kept by its ETag."""
    return JSONResponse(request.app.openapi(), headers={"Cache-Control": "no-cache"})


@router.get("/docs")
def docs() -> HTMLResponse:
    """Show the documentation page."""
    page = files(PACKAGE).joinpath("static/docs.html").read_text(encoding="utf-8")
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"}
    return HTMLResponse(page, headers=headers)


def _serve(name: str, package: str, path: str, media_type: str) -> None:
    @router.get(f"/docs/{name}")
    def asset() -> Response:
        content = files(package).joinpath(path).read_bytes()
        headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        return Response(content, media_type=media_type, headers=headers)


for _name, _file in ASSETS.items():
    _serve(_name, *_file)


#: The scopes of a key with which a route may be called, by the dependency that asks for them.
_SCOPES = {
    get_reader: [KeyScope.READ],
    get_scraper: [KeyScope.READ],
    get_submitter: [KeyScope.SUBMIT],
    get_event_source: [KeyScope.EVENTS, KeyScope.SUBMIT],
    get_administrator: [KeyScope.ADMIN],
}


def describe(app: FastAPI, routers: Iterable[APIRouter]) -> dict[str, Any]:
    """Return the OpenAPI document, built once. `routers`: of the application."""
    if app.openapi_schema is None:
        prefix = app.state.settings.api_root_path
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            servers=[{"url": prefix}] if prefix else None,
        )
        models = schema.setdefault("components", {}).setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template=_REF)
        models |= {**problem.pop("$defs"), "Problem": problem}
        for unused in ("HTTPValidationError", "ValidationError"):
            models.pop(unused, None)
        scopes = dict(_scopes(routers))
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                _add_problems(operation["responses"])
                needed = scopes.get((method.upper(), path), [])
                # A key is checked before any route; without DPIQA_API_KEY, on loopback, none is demanded.
                keys = [{name: [scope]} for scope in needed for name in ("bearer", "apiKey")]
                operation["security"] = [{}, *keys] if keys else []
                if needed:
                    text = " or ".join(f"`{scope}`" for scope in needed)
                    operation["description"] = f"{operation.get('description', '')}\n\nScope of the key: {text}."
        for name in _models_of_requests(schema):
            _say_defaults(models[name])
        for name, examples in EXAMPLES.items():
            models[name]["examples"] = examples
        schema["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        app.openapi_schema = schema
    return app.openapi_schema


def _scopes(routers: Iterable[APIRouter]) -> Iterator[tuple[tuple[str, str], list[KeyScope]]]:
    """Yield the scopes of each method and path, any of which is enough; none for a path that needs no key."""
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                calls = [dependency.call for dependency in route.dependant.dependencies]
                found = [scope for call, scopes in _SCOPES.items() if call in calls for scope in scopes]
                yield from (((method, route.path), found) for method in route.methods or ())


def _add_problems(responses: dict[str, Any]) -> None:
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}
    for status, text in _COMMON.items():
        responses[status] = {"description": text, "content": content}
    for status, response in responses.items():
        if status.startswith("4"):
            response["content"] = content


def _models_of_requests(schema: dict[str, Any]) -> set[str]:
    """Return the names of the models in bodies of requests."""
    bodies = [
        op["requestBody"]
        for operations in schema["paths"].values()
        for op in operations.values()
        if "requestBody" in op
    ]
    found: set[str] = set()
    new = set(_names_in(bodies))
    while new:
        found |= new
        new = set(_names_in([schema["components"]["schemas"][name] for name in new])) - found
    return found


def _names_in(document: Any) -> Iterator[str]:
    """Yield the names of the models that a part of the document refers to."""
    if isinstance(document, dict):
        if "$ref" in document:
            yield document["$ref"].rpartition("/")[2]
        document = list(document.values())
    for part in document if isinstance(document, list) else ():
        yield from _names_in(part)


def _say_defaults(model: dict[str, Any]) -> None:
    """Say defaults in words: generators of types take a field with a `default` for one that is always there."""
    for field in model.get("properties", {}).values():
        default = field.pop("default", None)
        if default is not None:
            field["description"] = f"{field.get('description', '')} Default: `{json.dumps(default)}`.".lstrip()
