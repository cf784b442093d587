"""Problems of validated values in plain words: Pydantic's own sentences name its types, patterns and functions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

#: Pydantic's name of a problem -> its sentence; `{name}` is filled from the problem's context.
_SENTENCES = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} elements",
    "too_long": "must have at most {max_length} elements",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "finite_number": "must be a finite number",
    "int_from_float": "must be a whole number",
    "json_invalid": "is not valid JSON: {error}",
    "union_tag_invalid": "its `{discriminator}` must be {expected_tags}",
    "union_tag_not_found": "its `{discriminator}` is required",
    "timezone_aware": "must have a time zone, e.g. 2026-05-17T12:00:00Z",
    "url_scheme": "must begin with {expected_schemes}",
    "string_unicode": "must be Unicode text",
}
#: The same by the first part of the name, for kinds of values that Pydantic has several problems with.
_OF_TYPE = {
    "string": "must be text",
    "int": "must be a whole number",
    "float": "must be a number",
    "decimal": "must be a number",
    "bool": "must be true or false",
    "datetime": "must be a time with its zone, e.g. 2026-05-17T12:00:00Z",
    "date": "must be a date, e.g. 2026-05-17",
    "time": "must be a time",
    "uuid": "must be a UUID",
    "url": "must be a URL",
    "bytes": "must be text",
    "path": "must be a path",
    "list": "must be a list",
    "tuple": "must be a list",
    "set": "must be a list",
    "dict": "must be an object with named fields",
    "model": "must be an object with named fields",
    "dataclass": "must be an object with named fields",
    "mapping": "must be an object with named fields",
    "none": "must be null",
}


def problem_in_words(error: "ErrorDetails", forms: Mapping[str, str] | None = None) -> str:
    """Return what is wrong with a value as the end of a sentence that begins with its name: `must be a number`.

    `forms`: a regular expression that values must match -> its meaning as the end of such a sentence. The value itself,
    which may be a secret, is not repeated.
    """
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("value_error", "assertion_error"):  # a sentence of this project
        return str(context.get("error") or error["msg"].partition(", ")[2])
    if kind == "string_pattern_mismatch":
        return (forms or {}).get(pattern := str(context.get("pattern")), f"must match {pattern}")
    if kind in ("string_too_short", "too_short") and context.get("min_length") == 1:
        return "must not be empty"
    if kind in _SENTENCES:
        if "discriminator" in context:  # quoted, or the name of a function: `_kind()`
            context = {**context, "discriminator": str(context["discriminator"]).strip("'_()")}
        return _SENTENCES[kind].format_map(context)
    return _OF_TYPE.get(kind.partition("_")[0], "is not valid")
