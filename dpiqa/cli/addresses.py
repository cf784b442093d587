"""What users type to name things: job ids, shares. Pure."""

import uuid

from dpiqa.errors import InvalidRequest


def parse_job_id(text: str) -> uuid.UUID:
    """Read a job id. Raises `InvalidRequest`."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise InvalidRequest(f"{text!r} is no job id", hint="`dpiqa jobs` lists them") from None


def parse_percent(text: str) -> float:
    """`5%`, `5` or `0.5%` -> percent, above 0 and at most 100. Raises `InvalidRequest`."""
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = float("nan")
    if not 0 < percent <= 100:
        raise InvalidRequest(f"{text!r} is no share", hint="write for example 5% (above 0 and at most 100)")
    return percent
