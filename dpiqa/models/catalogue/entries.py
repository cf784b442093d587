"""The table of published weights: `published.toml`."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StringConstraints, model_validator

from dpiqa.errors import NotFound
from dpiqa.types import ModelKind

_TABLE = Path(__file__).parent / "published.toml"
#: A path inside a repository: no step up, no root.
RelativePath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*$")]


class Terms(BaseModel):
    """What holds for all weights of one publisher."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    licence: str
    licence_url: str  #: where it can be read
    paper: str
    notes: str = ""


class Entry(BaseModel):
    """One thing that can be pulled: a model, or a part that models are made with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: ModelKind | None = None  #: what it is imported as; None: a part, kept as it is
    drive: str | None = None  #: id of its one file on Google Drive
    hub: str | None = None  #: repository on the Hugging Face hub
    revision: str = "main"  #: of the repository
    files: tuple[RelativePath, ...] = Field(min_length=1)
    terms: Terms
    trained_on: str = ""
    bytes: PositiveInt | None = None  #: about; None: unknown

    @model_validator(mode="after")
    def _has_one_place(self) -> "Entry":
        if (self.drive is None) == (self.hub is None):
            raise ValueError("exactly one of drive and hub")
        if len(self.files) != 1 and (self.drive is not None or self.kind is not None):
            raise ValueError("a model, or what is on Google Drive, is one file")
        return self


@cache
def catalogue() -> dict[str, Entry]:
    """Return all entries by name, in the order of the table."""
    table = tomllib.loads(_TABLE.read_text("utf-8"))
    return {name: _entry(name, fields, table["terms"]) for name, fields in table["model"].items()}


def find_entry(name: str) -> Entry:
    """Return the entry called `name`. Raises `NotFound` naming those there are."""
    entries = catalogue()
    if name not in entries:
        raise NotFound(f"nothing called {name!r} can be pulled", hint=f"there are: {', '.join(entries)}")
    return entries[name]


def _entry(name: str, fields: dict[str, Any], terms: dict[str, Any]) -> Entry:
    return Entry.model_validate(fields | {"name": name, "terms": terms[fields["terms"]]})
