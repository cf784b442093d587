"""Display of the demo: live progress, then tables. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dpiqa.imaging.distortions import STRENGTHS
from dpiqa.local.demo_photos import KINDS, ORIGINAL, parse_key
from dpiqa.local.supervisor import Unit, UnitState
from dpiqa.profiles import Profile
from dpiqa.text import sanitise

_ROWS = 6  #: of the best, the worst
_ESCALATED_ROWS = 12
#: Below the table of strengths where some means do not fall.
_EXCEPTIONS = (
    "Where a mean rises, the models misjudge that step on these photographs. Small ones that were compressed before "
    "are the usual case: JPEG's steps leave them little to lose. `dpiqa evaluate distortions` measures all kinds."
)
_STYLES = {UnitState.READY: "green", UnitState.STARTING: "yellow", UnitState.CRASHED: "bold red"}


def progress(units: Sequence[Unit], uploaded: int, total: int, job: dict[str, Any] | None) -> Group:
    """Return the live display."""
    processes = Text("processes  ")
    for unit in units:
        processes.append(f"{unit.name} ", _STYLES.get(unit.state, ""))
    done = job["done"] if job else 0
    bar = Table.grid(padding=(0, 2))
    bar.add_row("uploaded", ProgressBar(total=total, completed=uploaded, width=40), f"{uploaded}/{total}")
    bar.add_row("scored", ProgressBar(total=total, completed=done, width=40), f"{done}/{total}  {pace(job)}")
    return Group(processes, bar, Text(states(job), "dim"))


def line(units: Sequence[Unit], uploaded: int, total: int, job: dict[str, Any] | None) -> str:
    """Return the progress in one line, for an output that is not a terminal."""
    starting = [unit.name for unit in units if unit.state is not UnitState.READY]
    prefix = f"starting: {', '.join(starting)}; " if starting else ""
    done = job["done"] if job else 0
    return f"{prefix}uploaded {uploaded}/{total}, scored {done}/{total} {pace(job)}; {states(job)}"


def pace(job: dict[str, Any] | None) -> str:
    """Return the speed and the time left, in words."""
    if not job or not job["rate_per_second"]:
        return ""
    eta = job["eta_seconds"]
    left = f", {eta:.0f} s left" if eta is not None else ""
    return f"{job['rate_per_second']:.1f} images/s{left}"


def states(job: dict[str, Any] | None) -> str:
    """Return the number of items in each state, in words."""
    if not job:
        return "no images yet"
    counts = [f"{state} {n}" for state, n in job["counts"].items() if n]
    waiting = [f"{n} for the {stage}" for stage, n in job["open_by_stage"].items() if n]
    if waiting:
        counts.append(f"waiting: {', '.join(waiting)}")
    if job["waiting_for"]:
        counts.append(job["waiting_for"])
    return ", ".join(counts) or "no images yet"


def extremes(rows: Sequence[dict[str, Any]]) -> list[Table]:
    """Return the tables of the worst images and of the best photographs; `rows` are worst first.

    A copy may score higher than its original. The best are therefore originals, each with the number of its copies
    above it.
    """
    copies: dict[str, list[float]] = defaultdict(list)
    originals = []
    for row in rows:
        photograph, kind, _ = parse_key(row["key"])
        if kind == ORIGINAL:
            originals.append(row)
        else:
            copies[photograph].append(row["score"])
    best = list(reversed(originals[-_ROWS:]))
    if not copies:
        half = min(_ROWS, (len(rows) + 1) // 2)
        return [_scores("Worst", rows[:half]), _scores("Best", best[:half])]
    above = []
    for row in best:
        scores = copies[parse_key(row["key"])[0]]
        above.append(f"{sum(score > row['score'] for score in scores)} of {len(scores)}")
    return [_scores("Worst of all images", rows[:_ROWS]), _scores("Best photographs", best, above)]


def escalated(rows: Sequence[dict[str, Any]], profile: Profile) -> Table:
    """Return the table of the images that were sent to the teacher, with the reasons."""
    sent = [row for row in rows if row["teacher_score"] is not None]
    title = f"Sent to the teacher: {len(sent)} of {len(rows)}"
    table = _table(title, "image", "student", "teacher", "why")
    for row in sent[:_ESCALATED_ROWS]:
        numbers = f"{row['student_score']:.3f}", f"{row['teacher_score']:.3f}"
        table.add_row(_key(row), *numbers, why(row["student_score"], profile))
    if len(sent) > _ESCALATED_ROWS:
        table.add_row(f"and {len(sent) - _ESCALATED_ROWS} more", "", "", "", style="dim")
    return table


def why(student_score: float, profile: Profile) -> str:
    """Return the cut-off that the student's score is near to, in words."""
    near = [c for c in profile.cutoffs if abs(student_score - c.at) <= c.margin]
    if not near:
        return "borderline"
    cutoff = min(near, key=lambda c: abs(student_score - c.at))
    return f"within {cutoff.margin:g} of the cut-off {cutoff.at:g}"


def routes(rows: Iterable[dict[str, Any]]) -> str:
    """Return the number of images of each route, in words."""
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row["route"]] += 1
    return ", ".join(f"{route.replace('_', ' ')} {n}" for route, n in sorted(counts.items()))


def by_strength(rows: Sequence[dict[str, Any]]) -> Table | None:
    """Return the table of mean scores by kind and strength of distortion; None if there are no copies.

    A row compares the same photographs throughout: strength 0 is the mean of those that have copies of this kind. The
    last column says whether the means fall with strength.
    """
    scores: dict[str, dict[tuple[str, int], float]] = defaultdict(dict)  # photograph -> (kind, strength) -> score
    for row in rows:
        photograph, kind, strength = parse_key(row["key"])
        scores[photograph][kind, strength] = row["score"]
    complete = {  # kind -> one row of scores, from the original to the strongest copy, for each photograph
        kind: [
            [of[ORIGINAL, 0], *(of[kind, strength] for strength in STRENGTHS)]
            for of in scores.values()
            if (ORIGINAL, 0) in of and all((kind, strength) in of for strength in STRENGTHS)
        ]
        for kind in KINDS
    }
    if not any(complete.values()):
        return None
    columns = "photographs", "original", *map(str, STRENGTHS), "falls"
    table = _table("Mean score by strength of distortion", "distortion", *columns)
    exceptions = False
    for kind, of_photographs in [*complete.items(), ("all", [one for rows in complete.values() for one in rows])]:
        if of_photographs:
            means = [fmean(column) for column in zip(*of_photographs, strict=True)]
            verdict = falls(means)
            exceptions |= verdict != "yes"
            style = "bold" if kind == "all" else ""
            numbers = f"{len(of_photographs)}", *(f"{mean:.3f}" for mean in means)
            table.add_row(kind.replace("_", " "), *numbers, verdict, style=style)
    table.caption = _EXCEPTIONS if exceptions else None
    return table


def falls(means: Sequence[float]) -> str:
    """Return whether means fall with strength, in words. `means`: from the original to the strongest copy."""
    rises = [strength for strength in range(1, len(means)) if means[strength] > means[strength - 1]]
    if not rises:
        return "yes"
    if means[-1] < means[0]:
        return f"in all, but not at {', '.join(map(str, rises))}"
    return "no"


def unscored(items: Sequence[dict[str, Any]]) -> Table:
    """Return the table of the images that ended without a score."""
    table = _table("Not scored", "image", "state", "reason", "detail")
    for item in items[:20]:
        table.add_row(_key(item), item["state"], item["reason"] or "", sanitise(item["detail"] or ""))
    return table


def _scores(title: str, rows: Sequence[dict[str, Any]], above: Sequence[str] = ()) -> Table:
    """Return a table of scores. `above`: for each row, how many of its copies score higher."""
    more = ["copies above it"] if above else []
    table = _table(title, "image", "score", "by", "student", "teacher", *more)
    for number, row in enumerate(rows):
        numbers = ("" if row[name] is None else f"{row[name]:.3f}" for name in ("student_score", "teacher_score"))
        table.add_row(_key(row), f"{row['score']:.3f}", row["stage"], *numbers, *above[number : number + 1])
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        is_text = index == 0 or name in {"why", "by", "state", "reason", "detail", "falls"}
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    return table


def _key(row: dict[str, Any]) -> Text:
    return Text(sanitise(row["key"]))
