"""From preset, TOML file and `key=value` overrides to a run's configuration, later ones winning."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.text import first_field_error
from dpiqa.training.config.precision import Arithmetic, fastest_precision
from dpiqa.training.config.run import RunConfig

PRESETS = Path(__file__).parent / "presets"
#: Keys of earlier versions, and their names today.
RENAMED = {"loss.spoiled": "loss.distorted"}
R = TypeVar("R", bound=RunConfig)


def preset_names(kind: str | None = None) -> list[str]:
    """Return the names of the presets, of one kind of run or of all."""
    presets = ((file.stem, tomllib.loads(file.read_text("utf-8"))) for file in sorted(PRESETS.glob("*.toml")))
    return [name for name, document in presets if kind in (None, document["kind"])]


def preset_document(name: str) -> dict[str, Any]:
    """Return a preset as its file states it. `name`: one of `preset_names`."""
    return _read(PRESETS / f"{name}.toml")


def resolve(
    schema: type[R], *, preset: str | None = None, file: Path | None = None, overrides: Iterable[str] = ()
) -> R:
    """Return the configuration that a preset, a file and overrides (`plan.epochs=3`) make together.

    A file may name its preset itself (`preset = "bundled-student"`). The precision `auto` becomes this machine's: a run
    that is resumed on another machine must not change its arithmetic silently. Raises `InvalidRequest` naming the file
    and the first key that is unknown, missing or wrong.
    """
    document = {} if file is None else _read(file)
    name_in_file = document.pop("preset", None)
    name = preset or name_in_file
    document = merged(_preset(schema, name) if name else {}, document)
    for override in overrides:
        document = merged(document, parse_override(override))
    try:
        config = schema.model_validate(document)
    except ValidationError as error:
        raise _explained(error, schema, f"{file}: " if file else "") from None
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
    """`plan.epochs=3` -> {"plan": {"epochs": 3}}.

    A value that is not TOML is a string; `key=` removes the key (null). Raises `InvalidRequest`.
    """
    key, sign, value = text.partition("=")
    if not sign or not all(key.split(".")):
        raise InvalidRequest(f"{text!r} is not an override", hint="write KEY=VALUE, for example plan.epochs=3")
    document: Any = None
    if value.strip():
        try:
            document = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            document = value
    for name in reversed(key.strip().split(".")):
        document = {name: document}
    result: dict[str, Any] = document
    return result


def as_toml(config: RunConfig) -> str:
    """Return the whole configuration, defaults included, as a file that `resolve` reads again."""
    import tomli_w  # noqa: PLC0415 - the extra `train`

    return tomli_w.dumps(_without_none(config.model_dump(mode="json")))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(entry) for key, entry in value.items() if entry is not None}
    return [_without_none(entry) for entry in value] if isinstance(value, list | tuple) else value


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}", hint="name a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} is not valid TOML: {error}", hint="correct that line") from error


def _preset(schema: type[RunConfig], name: str) -> dict[str, Any]:
    kind = schema.model_fields["kind"].default
    names = preset_names(kind)
    if name not in names:
        raise NotFound(f"no preset of kind {kind} is called {name!r}", hint=f"known: {', '.join(names)}")
    return preset_document(name)


def _explained(error: ValidationError, schema: type[BaseModel], where: str) -> InvalidRequest:
    """Return the first of the errors as one line that names its key."""
    first = first_field_error(error, "the configuration")
    if first.kind == "extra_forbidden":
        new_name = RENAMED.get(first.field)
        hint = f"it is called {new_name} now" if new_name else _nearest(schema, first.location)
        return InvalidRequest(f"{where}unknown key {first.field}", hint=hint)
    return InvalidRequest(f"{where}{first}", hint="`--print-config` shows every key with its value")


def _nearest(schema: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Return a hint: the key that was probably meant, else the keys of that table."""
    table = schema
    for name in location[:-1]:
        field = table.model_fields.get(str(name))
        models = _models_in(field.annotation) if field else []
        if models:
            table = models[0]  # options (`X | None`) and tuples hold one model each
        elif not isinstance(name, int):
            break
    names = list(table.model_fields)
    close = difflib.get_close_matches(str(location[-1]), names, n=1)
    return f"did you mean {close[0]}?" if close else f"known there: {', '.join(names)}"


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
