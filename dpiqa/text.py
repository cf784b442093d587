"""Text from elsewhere (object keys, error messages) made safe to show, to log and to store."""

import unicodedata

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def sanitise(text: str) -> str:
    r"""Return `text` with control, format and surrogate characters as escapes (`\x1b`): safe on a terminal."""
    return "".join(
        char.encode("unicode_escape", "surrogatepass").decode("ascii")
        if unicodedata.category(char) in _UNSAFE_CATEGORIES
        else char
        for char in text
    )


def shorten(text: str, limit: int) -> str:
    """Return at most `limit` characters of `text`, with characters that cannot be printed as escapes."""
    clean = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def first_line(error: BaseException) -> str:
    """Type and first line of an error, at most 300 characters: short enough for a row or a log line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def storable(text: str | None) -> str | None:
    """Return `text` as Postgres can store it: without NUL and without halves of surrogate pairs."""
    return None if text is None else text.replace("\x00", "").encode("utf-8", "replace").decode()
