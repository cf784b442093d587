"""From preset, TOML file and `key=value` overrides to a run's configuration, later ones winning."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dpiqa.errors import InvalidRequest
from dpiqa.text import first_field_error
from dpiqa.training.config import RunConfig
from dpiqa.training.plan import Arithmetic
from dpiqa.training.precision import fastest_precision

PRESETS = Path(__file__).parent / "presets"
R = TypeVar("R", bound=RunConfig)


def preset_names(kind: str | None = None) -> list[str]:
    """Names of the presets, of one kind of run or of all."""
    found = ((file.stem, tomllib.loads(file.read_text("utf-8"))) for file in sorted(PRESETS.glob("*.toml")))
    return [name for name, document in found if kind in (None, document["kind"])]


def preset_document(name: str) -> dict[str, Any]:
    """Return a preset as it stands in its file. `name`: one of `preset_names`."""
    return _read(PRESETS / f"{name}.toml")


def resolve(
    schema: type[R], *, preset: str | None = None, file: Path | None = None, overrides: Iterable[str] = ()
) -> R:
    """Return the configuration that a preset, a file and overrides (`plan.epochs=3`) make together.

    A file may name its preset itself (`preset = "bundled-student"`). Raises `InvalidRequest` naming the file and the
    first key that is unknown, missing or wrong.
    """
    document = {} if file is None else _read(file)
    named = document.pop("preset", None)
    base = _preset(schema, preset or named) if preset or named else {}
    document = merged(base, document)
    for override in overrides:
        document = merged(document, parse_override(override))
    try:
        return _settled(schema.model_validate(document))
    except ValidationError as error:
        raise _explained(error, schema, f"{file}: " if file else "") from None


def _settled(config: R) -> R:
    """Say what `auto` means here: a run that goes on elsewhere must not change its arithmetic in silence."""
    if config.plan.precision is not Arithmetic.AUTO:
        return config
    return config.model_copy(update={"plan": config.plan.model_copy(update={"precision": fastest_precision()})})


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes`; tables merge key by key, anything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def parse_override(text: str) -> dict[str, Any]:
    """`plan.epochs=3` -> {"plan": {"epochs": 3}}. What is no TOML value is a string; `key=` takes a key away (null)."""
    key, sign, value = text.partition("=")
    if not sign or not all(key.split(".")):
        raise InvalidRequest(f"{text!r} is no override", hint="write KEY=VALUE, for example plan.epochs=3")
    parsed: Any = _value(value)
    for name in reversed(key.strip().split(".")):
        parsed = {name: parsed}
    document: dict[str, Any] = parsed
    return document


def as_toml(config: RunConfig) -> str:
    """Return the whole configuration, defaults included, as a file that `resolve` reads again."""
    import tomli_w  # noqa: PLC0415 - the extra `train`

    return tomli_w.dumps(_without_none(config.model_dump(mode="json")))


def _value(text: str) -> Any:
    if not text.strip():
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}", hint="name a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} is no TOML: {error}", hint="mend that line") from error


def _preset(schema: type[RunConfig], name: str) -> dict[str, Any]:
    kind = schema.model_fields["kind"].default
    known = preset_names(kind)
    if name not in known:
        raise InvalidRequest(f"no preset of kind {kind} is called {name!r}", hint=f"known: {', '.join(known)}")
    return preset_document(name)


def _explained(error: ValidationError, schema: type[BaseModel], where: str) -> InvalidRequest:
    wrong = first_field_error(error, "the configuration")
    if wrong.kind == "extra_forbidden":
        return InvalidRequest(f"{where}unknown key {wrong.field}", hint=_nearest(schema, wrong.location))
    return InvalidRequest(f"{where}{wrong}", hint="`--print-config` shows every key with its value")


def _nearest(schema: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Say which key was probably meant, else which there are."""
    known = list(_table(schema, location[:-1]).model_fields)
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known there: {', '.join(known)}"


def _table(schema: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the model of the table at `path`; options (`X | None`) and tuples hold one model each."""
    for name in path:
        if isinstance(name, int):
            continue
        found = schema.model_fields.get(name)
        nested = _models_in(found.annotation) if found else []
        if not nested:
            return schema
        schema = nested[0]
    return schema


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for one in getattr(annotation, "__args__", ()) for model in _models_in(one)]


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    return [_without_none(one) for one in value] if isinstance(value, list | tuple) else value
