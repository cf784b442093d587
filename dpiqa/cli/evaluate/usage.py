"""Which form of `dpiqa evaluate` a command line asks for, and which options do not go together. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dpiqa.errors import InvalidRequest


class Form(StrEnum):
    """What is measured."""

    ONE_MODEL = "one model"  #: against people, on one or more data sets
    COMPARISON = "comparison"  #: several models against people and the first of them
    ROUTING = "routing"  #: a profile's policy against its student alone and against chance
    DISTORTIONS = "distortions"  #: a model against distortions of known strength


@dataclass(frozen=True, kw_only=True)
class Given:
    """What was given. Flags: whether an option was."""

    models: Sequence[str]
    names: Sequence[str]  #: of data sets
    places: Sequence[object]  #: of data sets
    split: bool
    five_splits: bool
    requirement: bool
    seeds: bool
    routing: bool
    called: bool
    distortions: bool
    only_there: bool  #: one that belongs to --distortions


def form_of(given: Given) -> Form:
    """Return the form. Raises `InvalidRequest` for options that do not go together."""
    form = _form(given)
    complaint = next((words for is_wrong, *words in _rules(given, form) if is_wrong), None)
    if complaint is not None:
        raise InvalidRequest(complaint[0], hint=complaint[1])
    return form


def _form(given: Given) -> Form:
    if given.distortions:
        return Form.DISTORTIONS
    if given.routing:
        return Form.ROUTING
    return Form.COMPARISON if len(given.models) > 1 else Form.ONE_MODEL


def _rules(given: Given, form: Form) -> tuple[tuple[bool, str, str], ...]:
    """Whether each rule is broken, what is wrong then, and the hint."""
    several = form in {Form.COMPARISON, Form.ROUTING}
    sets, models = len(given.names), len(given.models)
    labelled = form is not Form.DISTORTIONS
    not_there = sets or given.split or given.five_splits or given.called or len(given.places) != 1
    no_model = "name one (`dpiqa models list`), or give --routing PROFILE"
    return (
        (given.routing and given.distortions, "--routing and --distortions are two questions", "ask one at a time"),
        (given.routing and models > 0, "--routing takes its models from the profile", "name no model"),
        (not given.routing and models == 0, "no model is named", no_model),
        (given.distortions and models > 1, "--distortions takes one model", "name one"),
        (
            given.distortions and bool(not_there),
            "--distortions takes one folder of pictures and no data set",
            "give --distortions --data FOLDER",
        ),
        (labelled and given.only_there, "--kind and --limit belong to --distortions", "leave them out"),
        (
            labelled and (sets == 0 or sets != len(given.places)),
            f"{sets} --dataset and {len(given.places)} --data were given",
            "give one --data for each --dataset",
        ),
        (given.split and given.five_splits, "--protocol five-splits makes its own splits", "leave --split out"),
        (several and given.five_splits, "--protocol five-splits is for one model", "leave it out"),
        (several and sets > 1, "several models are compared on one data set", "give one --dataset"),
        (several and given.requirement, "--requirement is for one model", "name one model"),
        (given.called and sets > 1, "--called is for one data set", "give one --dataset"),
        (given.seeds and form is not Form.COMPARISON, "--seeds needs several models", "name every run"),
        (len(set(given.models)) < models, "a model is named twice", "name each once"),
    )
