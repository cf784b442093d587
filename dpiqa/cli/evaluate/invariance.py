"""`dpiqa evaluate invariance`: changes of the score under edits that should not matter."""

import typer

from dpiqa.cli.evaluate.distortions import LimitOption, PicturesOption
from dpiqa.cli.evaluate.request import CardFolderOption, CardWriter, exit_for
from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.progress import counting
from dpiqa.cli.support.scoring import load_scorer
from dpiqa.cli.support.targets import local_files
from dpiqa.evaluation.invariance import measure_invariance
from dpiqa.imaging.decode import Limits

_COLUMNS = ("edit", "mean size of the change", "95 % below", "mean change")


@command(
    "invariance",
    "dpiqa evaluate invariance my-student --data ~/Pictures",
    "dpiqa evaluate invariance my-student --data ~/Pictures --limit 100 --json",
)
def invariance(
    ctx: typer.Context,
    model: options.ModelArgument,
    *,
    data: PicturesOption,
    limit: LimitOption = None,
    requirement: options.RequirementOption = None,
    device: options.DeviceOption = None,
    card: CardFolderOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show how far scores move under harmless edits.

    The edits: another encoding, another size, a quarter less of the height, mirrored, a thin border. Exits with
    status 1 when a picture was not scored.
    """
    files = local_files(str(data), limit)
    settings = context.read_settings(device=device)
    scorer = load_scorer(settings, model, requirement)
    cards = CardWriter.from_options(ctx, card)
    cards.check(scorer.card)
    with counting("editing and scoring", len(files)) as advance:
        result = measure_invariance(scorer, files, limits=Limits.from_settings(settings), advance=advance)
    if as_json:
        console.print_json("invariance@1", {"model": scorer.card.name, **result.as_dict()})
    else:
        console.table(_COLUMNS, [[name, *figures.values()] for name, figures in result.figures().items()])
        console.note(f"over {len(result.originals)} pictures; score: {scorer.card.score_scale}")
    cards.write([scorer.card], {"invariance": result.as_dict()}, measured=[scorer.card])
    exit_for(len(result.failures))
