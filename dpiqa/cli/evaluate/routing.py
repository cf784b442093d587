"""`dpiqa evaluate --routing PROFILE`: whether sending borderline images to the teacher improves decisions."""

from typing import TYPE_CHECKING

from dpiqa.cli.evaluate.request import Request, check_cards, images_of, scored_by, write_cards
from dpiqa.cli.support import console
from dpiqa.errors import InvalidRequest

if TYPE_CHECKING:
    from dpiqa.evaluation.routing_trial import RoutingTrial
    from dpiqa.models.choice import ModelChoice
    from dpiqa.profiles import Profile


def run(request: Request, profile_name: str) -> int:
    """Try the policy and show; returns how many images were not scored. Cards written: the student's and teacher's."""
    from dpiqa.evaluation.paired import pair_scores
    from dpiqa.evaluation.routing_trial import card_sections, check_routes, try_routing
    from dpiqa.models.cards import find_card
    from dpiqa.pipeline.scorers import check_profile
    from dpiqa.profiles import load_profile

    settings = request.settings
    profile = load_profile(profile_name, settings.profiles_dir)
    check_routes(profile)
    check_profile(profile, settings)
    choices = _choices(profile)
    cards = {choice.model: find_card(choice.model, settings.models_dir) for choice in choices.values()}
    check_cards(request, list(cards.values()))
    images = images_of(request)
    paired = pair_scores(scored_by(request, choices, images))
    trial = try_routing(paired, profile, chunk=settings.chunk_items, seed=request.seed)
    _deliver(request, trial, len(paired.failures))
    of_both = list(cards.values())
    write_cards(request, of_both, card_sections(trial, request.data), measured=of_both)
    return len(paired.failures)


def _choices(profile: "Profile") -> "dict[str, ModelChoice]":
    """Return student and teacher, in this order. Raises `InvalidRequest` for scores that are no MOS."""
    chosen = {stage.value: choice for stage, choice in profile.choices.items()}
    for choice in chosen.values():
        if choice.requirement is not None:
            raise InvalidRequest(
                f"{profile.id} scores by the requirement {choice.requirement}, which people's MOS says nothing about",
                hint="choose a profile whose models predict MOS",
            )
    return chosen


def _deliver(request: Request, trial: "RoutingTrial", failed: int) -> None:
    from dpiqa.evaluation import routing_trial as report

    document = {"data": request.data, "failures": failed, **trial.as_dict()}
    if request.output:
        from dpiqa.evaluation.report_files import write_trial

        written = write_trial(request.output, trial, request.data, document)
        console.note(f"{len(written)} files in {request.output}, routing.md among them")
    if request.as_json:
        console.print_json(document)
        return
    console.table(report.columns(trial), report.rows(trial), title=report.title(trial, request.data))
    console.table(
        report.DISAGREEMENT_COLUMNS, report.disagreement_rows(trial.disagreement), title="teacher against student"
    )
    console.stdout().print(console.plain(trial.verdict))
