"""Choose a threshold: what a cut-off rejects, pictures on both sides of it, labels, and a profile that keeps it."""

from dataclasses import asdict
from enum import StrEnum
from itertools import zip_longest
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import Field
from sqlalchemy import Connection

from dpiqa.errors import InvalidRequest, Unavailable
from dpiqa.http_api.cutoffs import LabelSet
from dpiqa.storage.cutoffs import CutoffReport, images_at, report_cutoff
from dpiqa.storage.engine import reading
from dpiqa.storage.labels import Draw, read_verdicts
from dpiqa.storage.samples import sample_scores
from dpiqa.storage.score_filter import ScoreFilter
from dpiqa.storage.scorers import list_used_profiles
from dpiqa.storage.scores import ScoreRow
from dpiqa.thresholds import MIN_LABELS
from dpiqa.types import Direction

from ..dependencies import EngineDep, ReaderDep, SettingsDep
from ..routes.cutoffs import Seed, ThresholdParameters
from .rendering import PageRoute, error_text, is_part, read_query, render

_STRIP = 8  #: pictures shown on each side of the cut-off
_DECK = 60  #: pictures to label at once

router = APIRouter(route_class=PageRoute, include_in_schema=False)


class Deck(StrEnum):
    """The pictures that are offered to be labelled."""

    RANDOM = "random"  #: drawn from the whole view
    NEAR = "near"  #: those nearest to the cut-off


class PageParameters(ThresholdParameters):
    """The query of the page."""

    label_set: LabelSet = "default"
    deck: Deck = Field(Deck.RANDOM)
    seed: Seed = 0


@router.get("/threshold")
def choose_threshold(request: Request, caller: ReaderDep, engine: EngineDep, settings: SettingsDep) -> HTMLResponse:
    """Show a view of scores and a cut-off in it; asked by htmx, only what moves with the cut-off."""
    parameters = read_query(request, PageParameters)
    with reading(engine) as c:
        conditions = parameters.conditions(c, settings, caller.grants)
        report = report_cutoff(
            c, conditions, parameters.label_set, cutoff=parameters.cutoff, precision=parameters.precision
        )
        rejected, accepted = images_at(c, conditions, report.cutoff, report.direction, _STRIP)
        values: dict[str, Any] = {
            "report": report,
            "chosen": _chosen(parameters, report),
            "rejected": rejected,
            "accepted": accepted,
            "rejects": "max" if report.direction is Direction.HIGHER else "min",
            "min_labels": MIN_LABELS,
        }
        if is_part(request):
            return render(request, "threshold_figures.html", **values)
        deck, draw, note = _deck(c, parameters, conditions, report)
        verdicts = read_verdicts(c, parameters.label_set, [row.image_id for row in deck])
        profiles = [row.id for row in list_used_profiles(c, caller.grants) if row.n_results != 0]
    return render(
        request,
        "threshold.html",
        deck=deck,
        draw=draw,
        deck_note=note,
        verdicts=verdicts,
        profiles=profiles,
        limits=_limits(report),
        address=f"s3://{conditions.bucket}/{conditions.prefix or ''}" if conditions.bucket else "s3://bucket/",
        **values,
    )


def _chosen(parameters: PageParameters, report: CutoffReport) -> dict[str, Any]:
    """Return the values of the address, with the cut-off that is shown."""
    return parameters.model_dump(mode="json") | {"cutoff": report.cutoff}


def _deck(
    c: Connection, parameters: PageParameters, conditions: ScoreFilter, report: CutoffReport
) -> tuple[list[ScoreRow], dict[str, Any] | None, str]:
    """Return the pictures to label, what they were drawn from (None: not at random), or why there are none."""
    if parameters.deck is Deck.NEAR:
        sides = images_at(c, conditions, report.cutoff, report.direction, _DECK // 2)
        return [row for pair in zip_longest(*sides) for row in pair if row is not None], None, ""
    try:
        drawn = sample_scores(c, conditions, _DECK, seed=parameters.seed)
    except (InvalidRequest, Unavailable) as error:
        return [], None, error_text(error)
    return drawn.rows, asdict(Draw.of(conditions)), ""


def _limits(report: CutoffReport) -> tuple[float, float]:
    """Return the scores between which the cut-off can be moved."""
    bars = report.histogram
    return (min(bars[0].low, report.cutoff), max(bars[-1].high, report.cutoff)) if bars else (0.0, 1.0)
