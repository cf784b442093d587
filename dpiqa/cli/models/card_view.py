"""Model cards as text: one line per field, and the main figures of each measured section."""

from collections.abc import Iterator, Mapping
from typing import Any

from dpiqa.percentiles import Reference
from dpiqa.types import Band

_FIGURES = {"srcc": "SRCC", "plcc": "PLCC", "rmse": "RMSE"}
_SPREAD = ("mean", "deviation", "lowest", "highest")


def card_lines(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names and lines of a card's JSON document; a name with several lines stands at the first."""
    for field, value in document.items():
        if value in (None, "", [], {}):
            continue
        name = field.replace("_", " ")
        if field == "figures" and isinstance(value, Mapping):
            for title, section in value.items():
                yield from _named(title, _section(section))
        elif isinstance(value, Mapping):
            yield from _named(name, (f"{key}: {_flat(item)}" for key, item in value.items() if item is not None))
        elif isinstance(value, list):
            yield from _named(name, map(_flat, value))
        else:
            yield name, str(value)


def _named(name: str, lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines):
        yield "" if number else name, line


def _section(section: Any) -> Iterator[str]:
    """Yield the lines of a section of figures; of an unknown kind of section, its plain values."""
    if not isinstance(section, Mapping):
        yield _flat(section)
        return
    lines = [*_agreement(section), *_distortions(section), *_seeds(section), *_routing(section), *_invariance(section)]
    yield from lines or [_flat({k: v for k, v in section.items() if isinstance(v, int | float | bool)})]
    yield from _origins(section)
    for key in ("chosen_on", "remark"):
        if key in section:
            yield f"{key.replace('_', ' ')}: {section[key]}"
    if "command" in section:
        yield f"$ {section['command']}"


def _agreement(section: Mapping[str, Any]) -> Iterator[str]:
    """Yield the correlation with human scores, pooled and by subset."""
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
        figures = dict(_parts(subset))
        yield f"{name}: {figures.get('n', '?')} images, SRCC {_number(figures.get('srcc'))}"


def _distortions(section: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(section.get("falling"), list):
        return
    pictures, kinds = section.get("pictures", "?"), section.get("kinds", "?")
    yield f"the score falls with strength for {len(section['falling'])} of {kinds} kinds ({pictures} pictures)"
    rising = [f"{kind} (rises at {_flat(strengths)})" for kind, strengths in _parts(section.get("rising_at_strengths"))]
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
    difference = section.get("teacher_against_student")
    if isinstance(difference, Mapping):
        rank = difference.get("srcc")
        rank = rank.get("value") if isinstance(rank, Mapping) else rank
        yield (
            f"teacher against student: SRCC {_number(rank)}, mean absolute difference "
            f"{_number(difference.get('mean_absolute_difference'))}, on opposite sides of a cut-off "
            f"{_number(difference.get('opposite_sides'))} of the images"
        )


def _invariance(section: Mapping[str, Any]) -> Iterator[str]:
    for name, figures in _parts(section.get("edits")):
        change = dict(_parts(figures))
        mean, most = _number(change.get("mean_size")), _number(change.get("size_95"))
        moves = f"moves the score by {mean} on average, 95 % by less than {most}"
        yield f"{name.replace('_', ' ')} {moves} ({section.get('pictures', '?')} pictures)"


def _origins(made: Mapping[str, Any], of: str = "") -> Iterator[str]:
    """Yield what something was made from, and what that was made from in turn."""
    for role, origin in _parts(made.get("made_from")):
        name = role.replace("_", " ") + of
        facts = dict(_parts(origin))
        yield f"made from {name}: {_flat({key: fact for key, fact in facts.items() if key != 'made_from'})}"
        yield from _origins(facts, f" of {name}")


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Return the items of a mapping, and none of anything else: cards may be written by hand."""
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
    """Return a value as one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_flat, value))
    return str(value)


def band_ranges(reference: Reference) -> dict[str, str]:
    """Return the scores that each band covers, in words, the worst band first."""
    ranges = {band: reference.range_of(band, reference.scorer_id) for band in Band}
    return {band.value: _range_in_words(scores.low, scores.high) for band, scores in ranges.items()}


def _range_in_words(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{low:.4f} to {high:.4f}"
    return f"below {high:.4f}" if high is not None else f"above {low:.4f}"


def in_words(reference: Reference) -> str:
    """Describe a reference in one line: its population, and the scores of each band."""
    bands = "; ".join(f"{band} {scores}" for band, scores in band_ranges(reference).items())
    return f"{reference.population}, {reference.n} images, by {reference.scorer_id}: {bands}"
