"""Pages of access: a key is entered once, and the session ends by itself or on request."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dpiqa.errors import LimitExceeded

from ..authentication import Authenticator, WrongKey
from ..sessions import Sessions
from .rendering import PageRoute, render

router = APIRouter(route_class=PageRoute, include_in_schema=False)


def _local(target: str | None) -> str:
    """Return a path of this service to go on at; anything else would lead elsewhere."""
    return target if target and target.startswith("/") and not target.startswith(("//", "/\\")) else "/"


@router.get("/login")
def show(request: Request, next: str | None = None) -> HTMLResponse:  # noqa: A002 - its name in the address
    """Ask for the key."""
    return render(request, "login.html", next=_local(next), message="")


@router.post("/login")
async def log_in(
    request: Request,
    key: Annotated[str, Form(max_length=512)],
    next: Annotated[str | None, Form()] = None,  # noqa: A002
) -> Response:
    """Begin a session with a key that may read."""
    authenticator: Authenticator = request.app.state.authenticator
    sessions: Sessions = request.app.state.sessions
    address = request.client.host if request.client else "?"
    root = request.scope.get("root_path", "")
    try:
        caller = await authenticator.caller_of_key(key.strip(), address)
    except WrongKey:
        request.app.state.metrics.key_failures.labels("wrong").inc()
        return render(request, "login.html", status=401, next=_local(next), message="This key is wrong or has ended.")
    except LimitExceeded as error:
        return render(request, "login.html", status=429, next=_local(next), message=f"{error.message}: {error.hint}")
    response = RedirectResponse(root + _local(next), 303)
    sessions.begin(response, caller.key_id, path=root or "/", secure=request.url.scheme == "https")
    return response


@router.post("/logout")
def log_out(request: Request) -> Response:
    """End the session of this browser."""
    root = request.scope.get("root_path", "")
    response = RedirectResponse(f"{root}/login", 303)
    request.app.state.sessions.end(response, path=root or "/")
    return response
