"""`dpiqa profiles`."""

from typing import TYPE_CHECKING, Annotated

import typer

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command, new_group

if TYPE_CHECKING:
    from dpiqa.profiles import Profile


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = new_group(
        "profiles", "Profiles: which models score, and which images the teacher sees.", ["dpiqa profiles list"]
    )
    command(group, "list", "dpiqa profiles list")(list_all)
    command(group, "show", "dpiqa profiles show default", "dpiqa profiles show default@1 --json")(show)
    app.add_typer(group)


def list_all(as_json: options.Json = False) -> None:
    """List the built-in profiles and those in DPIQA_PROFILES_DIR."""
    from dpiqa.profiles import list_profiles

    profiles = list_profiles(context.settings().profiles_dir)
    if as_json:
        console.print_json([_document(profile) for profile in profiles])
        return
    rows = [(one.id, str(one.student), str(one.teacher or ""), _share(one), one.description) for one in profiles]
    console.table(("profile", "student", "teacher", "escalates", "description"), rows)


def show(
    name: Annotated[str, typer.Argument(help="Name (the newest version) or id, such as default@1.")],
    as_json: options.Json = False,
) -> None:
    """Show one profile: models, cut-offs and margins, the escalated share."""
    from dpiqa.profiles import load_profile

    profile = load_profile(name, context.settings().profiles_dir)
    if as_json:
        console.print_json(_document(profile))
        return
    cutoffs = ", ".join(f"{cutoff.at:g} ± {cutoff.margin:g}" for cutoff in profile.cutoffs)
    console.fields(
        [
            ("profile", profile.id),
            ("description", profile.description),
            ("student", str(profile.student)),
            ("teacher", str(profile.teacher or "none")),
            ("cut-offs ± margins", cutoffs or "none"),
            ("escalates at most", _share(profile)),
        ]
    )


def _share(profile: "Profile") -> str:
    return f"{profile.max_escalated_share:.0%}" if profile.teacher else ""


def _document(profile: "Profile") -> dict[str, object]:
    return {"id": profile.id, **profile.model_dump(mode="json")}
