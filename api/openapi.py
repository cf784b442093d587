"""The description of the API: FastAPI's, with the errors and the key as they really are."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .errors import MEDIA_TYPE
from .schemas import Problem

_REF = "#/components/schemas/{model}"
#: Errors that any request may meet, with what they mean.
_COMMON = {
    "401": "The API key is missing or wrong.",
    "422": "The request does not fit: `errors` names the fields.",
    "503": "A part that the request needs does not answer.",
    "default": "Any other error.",
}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, built once."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        models = schema.setdefault("components", {}).setdefault("schemas", {})
        models["Problem"] = Problem.model_json_schema(ref_template=_REF)
        for unused in ("HTTPValidationError", "ValidationError"):
            models.pop(unused, None)
        for path in schema["paths"].values():
            for operation in path.values():
                _add_problems(operation["responses"])
        # The key is checked before any route, so no route declares it.
        schema["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        schema["security"] = [{}, {"bearer": []}, {"apiKey": []}]
        app.openapi_schema = schema
    return app.openapi_schema


def _add_problems(responses: dict[str, Any]) -> None:
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}
    for status, text in _COMMON.items():
        responses[status] = {"description": text, "content": content}
    for status, response in responses.items():
        if status.startswith("4"):
            response["content"] = content
