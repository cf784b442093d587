"""The command that makes a run's model again, and what it was made from: what a card says about its weights' origin.

The command is worked out from the configuration that held, not from what was typed: a file given with --config is not
at hand for who reads the card, and what was typed twice counts once.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpiqa.errors import InvalidRequest
from dpiqa.models.base import ModelCard
from dpiqa.models.cards import sha256_of
from dpiqa.provenance import shareable, shareable_path
from dpiqa.training.config import DataSet, RunConfig
from dpiqa.training.configfile import parse_override, preset_document, preset_names, resolve

#: What changes neither the weights nor which of them are kept, or has options of its own on the command line.
_LEFT_OUT = frozenset({"kind", "data.sets", "data.cache"})
_KEPT_OUTPUT = "output.half"
_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def reproducing_command(config: RunConfig) -> str:
    """Return the `dpiqa train ...` that has this configuration, as far as the weights depend on it, in shell's words.

    It begins from the preset that leaves the fewest settings to say. The seed is always said. Relative paths are as
    they were given; of absolute ones the last part stands for wherever the reader has the same file.
    """
    kind = type(config).model_fields["kind"].default
    preset, settings = _shortest(config, kind)
    words = ["dpiqa", "train", kind, *(["--preset", preset] if preset else [])]
    if _plain(config.data.sets):
        words += [word for one in config.data.sets for word in _set_words(one)]
    else:
        settings = {"data.sets": [_as_given(one) for one in config.data.sets]} | settings
    words += ["--out", shareable_path(str(config.output.folder))]
    words += ["--name", config.output.name] if config.makes_model else []
    for key, value in ({"plan.seed": config.plan.seed} | settings).items():
        words += ["--set", f"{key}={_text(shareable(value))}"]
    return shlex.join(words)


def origin(made: ModelCard | Path) -> dict[str, str]:
    """Say which model or file something was made from: name and sha256, and the command that made it where known.

    A model's command stands in its card; a file's in the record beside it (`vae.json`), which counts only if it is of
    these very bytes.
    """
    if isinstance(made, ModelCard):
        command = made.figures.get("training", {}).get("command")
        return {"model": made.name, "sha256": made.sha256} | ({"command": str(command)} if command else {})
    found = {"file": made.name, "sha256": sha256_of(made)}
    try:
        record = json.loads(made.with_suffix(".json").read_text("utf-8"))
        return found | ({"command": str(record["command"])} if record["sha256"] == found["sha256"] else {})
    except (OSError, ValueError, KeyError, TypeError):
        return found  # not made by `dpiqa train`, or moved away from its record


def origins(made: Mapping[str, ModelCard | Path | None]) -> dict[str, dict[str, str]]:
    """Return `origin` by role (`teacher`, `vae`, ...) for those that there are."""
    return {role: origin(one) for role, one in made.items() if one is not None}


def _shortest(config: RunConfig, kind: str) -> tuple[str | None, dict[str, Any]]:
    """Preset (None: from nothing) and settings that give this configuration, with as few settings as possible."""
    found = [(preset, _difference(config, preset)) for preset in (*preset_names(kind), None)]
    giving = [one for one in found if _gives(config, *one)]
    return min(giving or found[-1:], key=lambda one: len(one[1]))  # a card's text is no reason to lose a trained model


def _difference(config: RunConfig, preset: str | None) -> dict[str, Any]:
    """Return what must be set besides the preset, flat: `plan.epochs` -> 3."""
    whole = dict(_flat(config.model_dump(mode="json")))
    unusual = dict(_flat(config.model_dump(mode="json", exclude_defaults=True)))
    base = dict(_flat(preset_document(preset))) if preset else {}
    changed = {key: whole.get(key) for key, value in base.items() if whole.get(key) != value}
    added = {key: value for key, value in unusual.items() if key not in base}
    return {key: value for key, value in (changed | added).items() if _matters(key)}


def _gives(config: RunConfig, preset: str | None, settings: Mapping[str, Any]) -> bool:
    """Whether preset and settings, read as a command line is, end in this configuration."""
    try:
        again = resolve(type(config), preset=preset, overrides=[f"{k}={_text(v)}" for k, v in settings.items()])
    except InvalidRequest:
        return False  # a preset of another start, say
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


def _plain(sets: Sequence[DataSet]) -> bool:
    """Whether --dataset and --data say all about these sets."""
    return all(one == DataSet(name=one.name, path=one.path) for one in sets)


def _set_words(one: DataSet) -> list[str]:
    return ["--dataset", one.name, "--data", shareable_path(str(one.path))]


def _as_given(one: DataSet) -> dict[str, Any]:
    return one.model_dump(mode="json", exclude_defaults=True)


def _text(value: Any) -> str:
    """Write a value so that `parse_override` reads it again: words as they are, None as nothing, the rest as TOML."""
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
            return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    return repr(value)
