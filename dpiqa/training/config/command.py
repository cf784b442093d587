"""The `dpiqa train ...` command that gives a configuration again: a card names it for its weights.

The command is worked out from the resolved configuration, not from what was typed: a reader of the card does not have
the file given with --config, and a setting that was given twice counts once.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from dpiqa.errors import InvalidRequest
from dpiqa.provenance import shareable, shareable_path
from dpiqa.training.config.file import parse_override, preset_document, preset_names, resolve
from dpiqa.training.config.run import DataSet, RunConfig

#: Keys that change neither the weights nor which of them are kept, or have options of their own on the command line.
_LEFT_OUT = frozenset({"kind", "data.sets", "data.cache"})
_KEPT_OUTPUT = "output.half"
_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def reproducing_command(config: RunConfig) -> str:
    """Return the `dpiqa train ...` that has this configuration, as far as the weights depend on it, in shell's words.

    It begins from the preset that leaves the fewest settings to state. The seed is always stated. Relative paths are as
    they were given; of absolute ones the last part stands for wherever the reader has the same file.
    """
    kind = type(config).model_fields["kind"].default
    candidates = [(preset, _difference(config, preset)) for preset in (*preset_names(kind), None)]
    exact = [candidate for candidate in candidates if _gives(config, *candidate)]
    # A preset that cannot be reproduced is not a reason to lose a trained model: the last candidate has no preset.
    preset, settings = min(exact or candidates[-1:], key=lambda candidate: len(candidate[1]))
    words = ["dpiqa", "train", kind, *(["--preset", preset] if preset else [])]
    sets = config.data.sets
    if all(data_set == DataSet(name=data_set.name, path=data_set.path) for data_set in sets):
        for data_set in sets:
            words += ["--dataset", data_set.name, "--data", shareable_path(str(data_set.path))]
    else:
        settings = {"data.sets": [entry.model_dump(mode="json", exclude_defaults=True) for entry in sets]} | settings
    words += ["--out", shareable_path(str(config.output.folder))]
    words += ["--name", config.output.name] if config.makes_model else []
    for key, value in ({"plan.seed": config.plan.seed} | settings).items():
        words += ["--set", f"{key}={_text(shareable(value))}"]
    return shlex.join(words)


def _difference(config: RunConfig, preset: str | None) -> dict[str, Any]:
    """Return the settings needed besides the preset (None: from nothing), flat: `plan.epochs` -> 3."""
    values = dict(_flat(config.model_dump(mode="json")))
    unusual = dict(_flat(config.model_dump(mode="json", exclude_defaults=True)))
    base = dict(_flat(preset_document(preset))) if preset else {}
    changed = {key: values.get(key) for key, value in base.items() if values.get(key) != value}
    added = {key: value for key, value in unusual.items() if key not in base}
    return {key: value for key, value in (changed | added).items() if _matters(key)}


def _gives(config: RunConfig, preset: str | None, settings: Mapping[str, Any]) -> bool:
    """Return whether preset and settings, read as a command line is, give this configuration."""
    try:
        again = resolve(type(config), preset=preset, overrides=[f"{k}={_text(v)}" for k, v in settings.items()])
    except InvalidRequest:
        return False  # a preset with a `start`, say, for a configuration with an `architecture`
    return _decisive(again) == _decisive(config)


def _decisive(config: RunConfig) -> dict[str, Any]:
    return {key: value for key, value in _flat(config.model_dump(mode="json")) if _matters(key)}


def _matters(key: str) -> bool:
    return key not in _LEFT_OUT and (not key.startswith("output.") or key == _KEPT_OUTPUT)


def _flat(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield leaves by dotted key. A table whose keys hold dots themselves (`plan.slow`) is a leaf."""
    for key, value in document.items():
        if isinstance(value, Mapping) and value and all(_SIMPLE_KEY.fullmatch(name) for name in value):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield above + key, value


def _text(value: Any) -> str:
    """Write a value so that `parse_override` reads it: plain words bare, None as nothing, the rest as TOML."""
    if value is None:
        return ""
    if isinstance(value, str) and parse_override(f"k={value}") == {"k": value}:
        return value
    return _toml(value)


def _toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value)
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {_toml(entry)}" for key, entry in value.items()) + "}"
    return repr(value)
