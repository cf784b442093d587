"""Exports as streamed responses. Errors before the first byte are problems; later ones break the connection off."""

import threading
from collections.abc import Iterator
from itertools import chain
from typing import Any

import structlog
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from dpiqa.exports.formats import Format, encode
from dpiqa.exports.schemas import Columns, Schema
from dpiqa.text import first_line

from .manners import REVALIDATED

log = structlog.get_logger()

MAX_EXPORTS = 4  #: at once in one process: each keeps a core and, while it reads, a database connection busy
_slots = threading.BoundedSemaphore(MAX_EXPORTS)
#: Responses of an export route, for OpenAPI.
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The rows, streamed. A response that breaks off before its end is incomplete.",
        "content": {kind.media_type.partition(";")[0]: {"schema": {"type": "string"}} for kind in Format},
    },
    429: {"description": f"{MAX_EXPORTS} exports run already."},
}


def export_response(
    schema: Schema, kind: Format, batches: Iterator[Columns], *, etag: str | None = None
) -> StreamingResponse:
    """Return a response that streams rows while they are read. `etag`: of rows that do not change any more.

    The first rows are read before it returns, so that an error until then is answered as a problem. An error after that
    ends the connection without the end of the chunked body, which no client takes for a complete file.
    """
    if not _slots.acquire(blocking=False):
        raise HTTPException(429, f"{MAX_EXPORTS} exports run already", {"Retry-After": "5"})
    chunks = _chunks(schema, kind, batches)
    next(chunks)
    headers = {
        "Content-Disposition": f'attachment; filename="{schema.name}.{kind}"',
        "X-Dpiqa-Schema": schema.id,
        "Cache-Control": "no-store" if etag is None else REVALIDATED,
    }
    if etag is not None:
        headers["ETag"] = etag
    return StreamingResponse(chunks, media_type=kind.media_type, headers=headers)


def _chunks(schema: Schema, kind: Format, batches: Iterator[Columns]) -> Iterator[bytes]:
    """Yield nothing once the first rows are read, then the bytes. Frees its slot when it ends, fails or is closed."""
    n_bytes = 0
    try:
        first = [columns for columns in (next(batches, None),) if columns is not None]
        yield b""
        for chunk in encode(kind, schema, chain(first, batches)):
            n_bytes += len(chunk)
            yield chunk
    except GeneratorExit:
        log.info("export_abandoned", schema=schema.id, bytes=n_bytes)
        raise
    except Exception as error:
        log.warning("export_failed", schema=schema.id, bytes=n_bytes, error=first_line(error))
        raise
    finally:
        _slots.release()
