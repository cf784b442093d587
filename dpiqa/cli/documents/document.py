"""A kind of document that `--json` prints: name, version, and the type that makes its JSON Schema."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

Fields = dict[str, Any]  #: name -> type; `NotRequired` where the field may be missing
Shape = Callable[[], Any]  #: returns the type; called late, because types live in modules that are slow to import


@dataclass(frozen=True)
class Document:
    """One kind of document."""

    name: str
    version: int
    meaning: str
    shape: Shape

    @property
    def id(self) -> str:
        """Name and version, e.g. `job@1`."""
        return f"{self.name}@{self.version}"

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """The type, which checks values."""
        return TypeAdapter(self.shape())

    @cached_property
    def fields(self) -> tuple[set[str], set[str]]:
        """The names of the fields that must be there, and of all; empty where it is not an object of fixed fields."""
        schema = self.adapter.json_schema(mode="serialization")
        while "$ref" in schema:
            schema = {**schema["$defs"][schema["$ref"].rpartition("/")[2]], "$defs": schema["$defs"]}
        return set(schema.get("required", ())), set(schema.get("properties", ()))

    @property
    def json_file(self) -> Path:
        """The file with the JSON Schema, as it comes with the package."""
        return Path(__file__).parent / "json" / f"{self.name}-{self.version}.json"

    def json_text(self) -> str:
        """Return what that file says."""
        head = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:dpiqa:schema:{self.id}",
            "title": self.id,
            "description": self.meaning,
        }
        schema = self.adapter.json_schema(mode="serialization")
        return json.dumps(head | {name: value for name, value in schema.items() if name not in head}, indent=2) + "\n"


def named(path: str) -> Shape:
    """Take a dataclass or model as it is."""
    return lambda: resolve_name(f"dpiqa.{path}")


def made(name: str, fields: Callable[[], Fields]) -> Shape:
    """Make a type of fields."""

    def shape() -> Any:
        return TypedDict(name, fields())  # type: ignore[operator]  # made when it is asked for

    return shape
