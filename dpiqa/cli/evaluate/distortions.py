"""`dpiqa evaluate distortions`: score against strength for each kind of distortion."""

from pathlib import Path
from typing import Annotated

import typer

from dpiqa.cli.evaluate.request import CardFolderOption, CardWriter, ReportFolderOption, exit_for, note_report
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.progress import counting
from dpiqa.cli.support.scoring import load_scorer
from dpiqa.cli.support.targets import local_files
from dpiqa.evaluation.sweep import card_sections, check_kinds, sweep
from dpiqa.imaging.decode import Limits

PicturesOption = Annotated[Path, typer.Option("--data", help="Folder of pictures; no labels are needed.")]
KindsOption = Annotated[list[str] | None, typer.Option("--kind", help="Only this kind. May be repeated.")]
LimitOption = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Only the first N pictures.")]
_COLUMNS = ("distortion", "original", "1", "2", "3", "4", "5", "with strength the score")


@command(
    "distortions",
    "dpiqa evaluate distortions my-student --data ~/Pictures --output report",
    "dpiqa evaluate distortions my-student --data ~/Pictures --kind jpeg --kind haze --limit 20",
)
def distortions(  # noqa: PLR0913 - one parameter per option
    ctx: typer.Context,
    model: options.ModelArgument,
    *,
    data: PicturesOption,
    kind: KindsOption = None,
    limit: LimitOption = None,
    requirement: options.RequirementOption = None,
    device: options.DeviceOption = None,
    output: ReportFolderOption = None,
    card: CardFolderOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show for which kinds of distortion the score falls.

    Every picture is distorted in 36 kinds at five strengths. Exits with status 1 when a picture was not scored.
    """
    kinds = kind or []
    check_kinds(kinds)
    files = local_files(str(data), limit)
    settings = context.read_settings(device=device)
    scorer = load_scorer(settings, model, requirement)
    cards = CardWriter.from_options(ctx, card)
    cards.check(scorer.card)
    with counting("distorting and scoring", len(files)) as advance:
        result = sweep(scorer, files, kinds=kinds, limits=Limits.from_settings(settings), advance=advance)
    if output:
        from dpiqa.evaluation.report_files import write_sweep  # noqa: PLC0415 - matplotlib, an extra

        note_report(output, write_sweep(output, scorer.card, result), "distortions.md")
    if as_json:
        console.print_json("distortion-sweep@1", {"model": scorer.card.name, **result.as_dict()})
    else:
        rows = [[kind, *map(float, result.means[kind]), str(trend)] for kind, trend in result.trends.items()]
        console.table(_COLUMNS, rows)
        falling = sum(trend.falls for trend in result.trends.values())
        n_kinds, n_pictures = len(result.kinds), len(result.scores)
        console.note(f"falls with strength for {falling} of {n_kinds} kinds, over {n_pictures} pictures")
    cards.write([scorer.card], card_sections(result), measured=[scorer.card])
    exit_for(len(result.failures))
