"""`dpiqa evaluate MODEL --distortions`: score against strength for each kind of distortion."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dpiqa.cli.evaluate.request import Request, check_cards, write_cards
from dpiqa.cli.support import console, scorers, targets

if TYPE_CHECKING:
    from dpiqa.evaluation.sweep import Sweep

_COLUMNS = ("distortion", "original", "1", "2", "3", "4", "5", "with strength the score")


def run(request: Request, model: str, folder: Path, kinds: Sequence[str], limit: int | None) -> int:
    """Measure and show; returns how many pictures were not scored. Raises `InvalidRequest`, `NotFound`."""
    from dpiqa.cli.support.progress import counting
    from dpiqa.evaluation.sweep import card_sections, check_kinds, sweep
    from dpiqa.imaging.decode import Limits

    check_kinds(kinds)
    files = [Path(ref.key) for ref in targets.local_refs(targets.find_places([str(folder)]))][:limit]
    scorer = scorers.load(request.settings, model, request.requirement)
    check_cards(request, [scorer.card])
    with counting("distorting and scoring", len(files)) as advance:
        found = sweep(scorer, files, kinds=kinds, limits=Limits.from_settings(request.settings), advance=advance)
    if request.output:
        from dpiqa.evaluation.report_files import write_sweep

        written = write_sweep(request.output, scorer.card, found)
        console.note(f"{len(written)} files in {request.output}, distortions.md among them")
    if request.as_json:
        console.print_json({"model": scorer.card.name, **found.as_dict()})
    else:
        _show(found)
    write_cards(request, [scorer.card], card_sections(found), measured=[scorer.card])
    return len(found.failures)


def _show(found: "Sweep") -> None:
    console.table(
        _COLUMNS,
        [[kind, *(float(value) for value in found.means[kind]), str(trend)] for kind, trend in found.trends.items()],
    )
    falling = sum(trend.falls for trend in found.trends.values())
    console.note(f"falls with strength for {falling} of {len(found.kinds)} kinds, over {len(found.scores)} pictures")
