"""A model card for reading: one line for a thing, and of every section of figures what people ask first."""

from collections.abc import Iterator, Mapping
from typing import Any

_FIGURES = {"srcc": "SRCC", "plcc": "PLCC", "rmse": "RMSE"}
_SPREAD = ("mean", "deviation", "lowest", "highest")


def card_lines(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names and lines of a card as JSON has it; a name that has several lines stands at the first."""
    for key, value in document.items():
        if value in (None, "", [], {}):
            continue
        name = key.replace("_", " ")
        if key == "figures" and isinstance(value, Mapping):
            for title, section in value.items():
                yield from _named(title, _section(section))
        elif isinstance(value, Mapping):
            yield from _named(name, (f"{part}: {_flat(one)}" for part, one in value.items() if one is not None))
        elif isinstance(value, list):
            yield from _named(name, map(_flat, value))
        else:
            yield name, str(value)


def _named(name: str, lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines):
        yield "" if number else name, line


def _section(section: Any) -> Iterator[str]:
    """Yield what a section of figures says; of one that we do not know, its plain values."""
    if not isinstance(section, Mapping):
        yield _flat(section)
        return
    known = [*_agreement(section), *_distortions(section), *_seeds(section), *_routing(section)]
    yield from known or [_flat({k: v for k, v in section.items() if isinstance(v, int | float | bool)})]
    for role, origin in _parts(section.get("made_from")):
        yield f"made from {role.replace('_', ' ')}: {_flat(origin)}"
    for key in ("chosen_on", "remark"):
        if key in section:
            yield f"{key.replace('_', ' ')}: {section[key]}"
    if "command" in section:
        yield f"$ {section['command']}"


def _agreement(section: Mapping[str, Any]) -> Iterator[str]:
    """Yield correlation with people's scores, pooled and by subset."""
    if not isinstance(section.get("srcc"), int | float):
        return
    intervals = dict(_parts(section.get("intervals_95")))
    parts = [
        f"{label} {_with_interval(section[key], intervals.get(key))}"
        for key, label in _FIGURES.items()
        if key in section
    ]
    yield f"{section.get('n', '?')} images: {', '.join(parts)}"
    for name, subset in _parts(section.get("subsets")):
        known = dict(_parts(subset))
        yield f"{name}: {known.get('n', '?')} images, SRCC {_number(known.get('srcc'))}"


def _distortions(section: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(section.get("falling"), list):
        return
    pictures, kinds = section.get("pictures", "?"), section.get("kinds", "?")
    yield f"the score falls with strength for {len(section['falling'])} of {kinds} kinds ({pictures} pictures)"
    rising = [f"{kind} (rises at {_flat(at)})" for kind, at in _parts(section.get("rising_at_strengths"))]
    if rising:
        yield "not for " + ", ".join(rising)
    if section.get("flat"):
        yield f"does not move for {_flat(section['flat'])}"


def _seeds(section: Mapping[str, Any]) -> Iterator[str]:
    for name, part in _parts(section.get("parts")):
        spread = dict(_parts(dict(_parts(dict(_parts(part)).get("spread"))).get("srcc")))
        if spread:
            mean, deviation, lowest, highest = (_number(spread.get(key)) for key in _SPREAD)
            runs = len(list(section.get("runs") or ()))
            yield f"{name}: SRCC of {runs} runs {mean}, deviation {deviation} ({lowest} to {highest})"


def _routing(section: Mapping[str, Any]) -> Iterator[str]:
    if "verdict" in section:
        yield str(section["verdict"])
    between = section.get("teacher_against_student")
    if isinstance(between, Mapping):
        rank = between.get("srcc")
        rank = rank.get("value") if isinstance(rank, Mapping) else rank
        yield (
            f"teacher against student: SRCC {_number(rank)}, mean absolute difference "
            f"{_number(between.get('mean_absolute_difference'))}, on opposite sides of a cut-off "
            f"{_number(between.get('opposite_sides'))} of the images"
        )


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Return names and values of a mapping, nothing of anything else: cards may be written by hand."""
    return list(value.items()) if isinstance(value, Mapping) else []


def _with_interval(value: Any, interval: Any) -> str:
    ends = (
        f" [{_number(interval[0])}, {_number(interval[1])}]"
        if isinstance(interval, list) and len(interval) == 2
        else ""
    )
    return _number(value) + ends


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "?"


def _flat(value: Any) -> str:
    """Return a value in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_flat, value))
    return str(value)
