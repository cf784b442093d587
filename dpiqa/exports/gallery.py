"""Galleries: one HTML file with small pictures, scores and reasons, which needs nothing else and no network. Pure."""

import base64
import html
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dpiqa.text import sanitise

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --card: #f4f4f5; --text: #18181b; --faint: #52525b; --line: #d4d4d8;
  --bad: #b91c1c; --poor: #b45309; --fair: #3f6212; --good: #047857; --excellent: #0369a1; }
@media (prefers-color-scheme: dark) { :root { --back: #111113; --card: #1d1d20; --text: #f4f4f5; --faint: #a1a1aa;
  --line: #3f3f46; --bad: #fca5a5; --poor: #fcd34d; --fair: #bef264; --good: #6ee7b7; --excellent: #7dd3fc; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 100rem; background: var(--back); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
header p, footer { margin: .2rem 0; color: var(--faint); overflow-wrap: anywhere; }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(13rem, 100%), 1fr)); gap: .75rem;
  margin: 1rem 0; padding: 0; list-style: none; }
li { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; overflow: hidden; min-width: 0; }
.picture { height: 12rem; display: flex; align-items: center; justify-content: center; text-align: center; }
.picture img { display: block; width: auto; height: auto; max-width: 100%; max-height: 100%; }
.picture span { padding: .5rem; color: var(--faint); overflow-wrap: anywhere; }
.text { padding: .5rem .6rem .6rem; }
.score { font-weight: 600; font-variant-numeric: tabular-nums; }
.bad { color: var(--bad); } .poor { color: var(--poor); } .fair { color: var(--fair); } .good { color: var(--good); }
.excellent { color: var(--excellent); }
.name, .why { font-size: .85rem; overflow-wrap: anywhere; } .why { color: var(--faint); }
"""
#: Nothing is loaded and nothing runs, whatever a name or a message says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image of a gallery."""

    address: str
    jpeg: bytes | None = None  #: a small version of it; None: it cannot be shown
    size: tuple[int, int] = (0, 0)  #: width and height of that version, pixels
    score: float | None = None
    percentile: str | None = None  #: in words
    band: str | None = None
    why: Sequence[str] = ()  #: why it has no score, or more about the score; lines


def page(title: str, about: Sequence[str], parts: Iterable[tuple[str, Iterable[Picture]]]) -> Iterator[bytes]:
    """Yield the bytes of the file: a heading, lines about it, and parts, each with a heading and pictures."""
    yield _encoded(
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_safe(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{_safe(title)}</h1>\n"
    )
    yield _encoded("".join(f"<p>{_safe(line)}</p>\n" for line in about) + "</header>\n<main>\n")
    for heading, pictures in parts:
        yield _encoded(f"<h2>{_safe(heading)}</h2>\n<ol>\n")
        for picture in pictures:
            yield _encoded(_card(picture))
        yield _encoded("</ol>\n")
    yield _encoded("</main>\n</body>\n</html>\n")


def _card(picture: Picture) -> str:
    name = _safe(picture.address)
    if picture.jpeg is None:
        shown = "<span>no picture</span>"
    else:
        width, height = picture.size
        data = base64.b64encode(picture.jpeg).decode("ascii")
        shown = f'<img alt="{name}" width="{width}" height="{height}" src="data:image/jpeg;base64,{data}">'
    lines = [f'<div class="name">{name}</div>']
    if picture.score is not None:
        band = f' <span class="{_safe(picture.band)}">{_safe(picture.band)}</span>' if picture.band else ""
        percentile = f", {_safe(picture.percentile)} percentile" if picture.percentile else ""
        lines.insert(0, f'<div class="score">{picture.score:.4f}{band}{percentile}</div>')
    lines += [f'<div class="why">{_safe(line)}</div>' for line in picture.why]
    return f'<li><div class="picture">{shown}</div><div class="text">{"".join(lines)}</div></li>\n'


def _safe(text: str) -> str:
    """Return text without control characters, which cannot end or begin an element."""
    return html.escape(sanitise(text))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
