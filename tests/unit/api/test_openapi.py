"""The OpenAPI document: what generators of clients need of it, and what a reader does."""

import re

import jsonschema
import pytest
from dpiqa.api.app import create_app
from dpiqa.api.errors import FORMS
from dpiqa.api.security import OPEN_PATHS

from dpiqa.settings import Settings


@pytest.fixture(scope="module")
def document():
    settings = Settings(database_url="postgresql://nobody@127.0.0.1/none", broker_url="redis://127.0.0.1:1/0")
    return create_app(settings).openapi()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def parts(value, path=""):
    """Yield every part of the document with its path."""
    yield path, value
    if isinstance(value, dict):
        for name, part in value.items():
            yield from parts(part, f"{path}/{name}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from parts(part, f"{path}/{number}")


def test_operation_ids_are_short_and_unique(document):
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids)) > 30
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(_[a-z]+){1,2}", name)] == []


def test_no_schema_is_a_boolean(document):
    schemas = document["components"]["schemas"]
    of_properties = [
        path
        for path, part in parts(schemas)
        if isinstance(part, bool) and re.search(r"/(properties|\w+Of)/[^/]+$", path)
    ]
    assert of_properties == []


def test_schemas_have_names_without_underscores(document):
    assert [name for name in document["components"]["schemas"] if not name.isalnum()] == []


def test_open_paths_have_no_padlock_and_all_others_have_one(document):
    for label, operation in operations(document):
        assert (operation["security"] == []) == (label.split()[1] in OPEN_PATHS), label


def test_fields_of_requests_that_may_be_left_out_have_no_default(document):
    # `openapi-typescript` takes a field with a default for one that is always there, so requests would have to send it
    job = document["components"]["schemas"]["PrefixJob"]
    assert "required" not in job
    assert "default" not in str([list(field) for field in job["properties"].values()])
    assert job["properties"]["seed"]["description"] == "Of the sample. Default: `0`."


def test_every_body_has_examples_that_fit(document):
    schemas = document["components"]["schemas"]
    bodies = set()
    for _, operation in operations(document):
        answers = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
        for body in [operation.get("requestBody", {}), *answers]:
            schema = body.get("content", {}).get("application/json", {}).get("schema", {})
            bodies |= {one["$ref"].rpartition("/")[2] for one in [schema, *schema.get("oneOf", [])] if "$ref" in one}
    assert len(bodies) > 20
    for name in bodies | {"Problem"}:
        assert schemas[name]["examples"], name
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
        for example in schemas[name]["examples"]:
            assert [f"{name}: {error.json_path} {error.message}" for error in checker.iter_errors(example)] == []


def test_every_form_of_a_field_is_said_in_words(document):
    patterns = {part["pattern"] for _, part in parts(document) if isinstance(part, dict) and "pattern" in part}
    assert patterns == set(FORMS)


def test_a_bucket_and_a_source_exclude_each_other(document):
    checker = jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/PrefixJob", "components": document["components"]}
    )
    assert checker.is_valid({"bucket": "b"})
    assert checker.is_valid({"source": "s3://b/p"})
    for wrong in ({}, {"prefix": "p"}, {"bucket": "b", "source": "s3://b/p"}, {"source": "s3://b/p", "prefix": "p"}):
        assert not checker.is_valid(wrong), wrong
