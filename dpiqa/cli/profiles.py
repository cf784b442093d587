"""`dpiqa profiles`."""

from typing import Annotated

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.profiles import Profile, load_profile
from dpiqa.profiles import list_profiles as read_profiles


@command("list", "dpiqa profiles list")
def list_profiles(as_json: options.JsonOption = False) -> None:
    """List the built-in profiles and those in DPIQA_PROFILES_DIR."""
    profiles = read_profiles(context.read_settings().profiles_dir)
    if as_json:
        console.print_json("profile@1", [_as_dict(profile) for profile in profiles])
        return
    rows = [
        (profile.id, str(profile.student), str(profile.teacher or ""), _share(profile), profile.description)
        for profile in profiles
    ]
    console.table(("profile", "student", "teacher", "escalates", "description"), rows)


@command("show", "dpiqa profiles show default", "dpiqa profiles show smoke@1 --json")
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="Name (the newest version) or id, such as smoke@1.", autocompletion=options.complete_profile
        ),
    ],
    as_json: options.JsonOption = False,
) -> None:
    """Show one profile: models, cut-offs and margins, the escalated share."""
    profile = load_profile(name, context.read_settings().profiles_dir)
    if as_json:
        console.print_json("profile@1", _as_dict(profile))
        return
    cutoffs = ", ".join(f"{cutoff.at:g} +- {cutoff.margin:g}" for cutoff in profile.cutoffs)
    console.fields(
        [
            ("profile", profile.id),
            ("description", profile.description),
            ("student", str(profile.student)),
            ("teacher", str(profile.teacher or "none")),
            ("cut-offs +- margins", cutoffs or "none"),
            ("escalates at most", _share(profile)),
        ]
    )


def _share(profile: Profile) -> str:
    return f"{profile.max_escalated_share:.0%}" if profile.teacher else ""


def _as_dict(profile: Profile) -> dict[str, object]:
    return {"id": profile.id, **profile.model_dump(mode="json")}
