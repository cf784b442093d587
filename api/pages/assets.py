"""Files of the pages: the style sheet, scripts, and the libraries with their licences. Kept by their content."""

import hashlib
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

router = APIRouter(include_in_schema=False)

#: Name -> media type.
ASSETS = {
    "style.css": "text/css",
    "app.js": "text/javascript",
    "threshold.js": "text/javascript",
    "compare.js": "text/javascript",
    "htmx.min.js": "text/javascript",
    "uplot.min.js": "text/javascript",
    "uplot.min.css": "text/css",
    "LICENSES.txt": "text/plain",
}


def _serve(name: str, media_type: str) -> None:
    content = files("dpiqa.api.pages").joinpath("static", name).read_bytes()
    headers = {
        "Cache-Control": "private, no-cache",
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        "X-Content-Type-Options": "nosniff",
    }

    @router.get(f"/assets/{name}")
    def asset() -> Response:
        return Response(content, media_type=media_type, headers=headers)


for _name, _media_type in ASSETS.items():
    _serve(_name, _media_type)
