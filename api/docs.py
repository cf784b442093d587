"""The documentation page, served from this process alone: Swagger UI's files come out of an installed wheel.

FastAPI's own page loads them from a CDN, which a machine without a way out cannot reach and a careful operator
does not want. The page runs no inline script, so its content security policy can forbid every other origin.
"""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

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

router = APIRouter(include_in_schema=False)


@router.get("/")
def root() -> RedirectResponse:
    """Lead a browser to the documentation."""
    return RedirectResponse("docs")


@router.get("/docs")
def docs() -> HTMLResponse:
    """Show the documentation page."""
    page = files(PACKAGE).joinpath("static/docs.html").read_text(encoding="utf-8")
    return HTMLResponse(page, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})


def _serve(name: str, package: str, path: str, media_type: str) -> None:
    @router.get(f"/docs/{name}")
    def asset() -> Response:
        content = files(package).joinpath(path).read_bytes()
        headers = {"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}
        return Response(content, media_type=media_type, headers=headers)


for _name, _where in ASSETS.items():
    _serve(_name, *_where)
