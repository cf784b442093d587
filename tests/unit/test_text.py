"""Text from elsewhere, made safe and short."""

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from dpiqa.text import first_field_error


class Plan(BaseModel):
    model_config = ConfigDict(extra="forbid")

    epochs: list[int]

    @model_validator(mode="after")
    def _some(self):
        if not self.epochs:
            raise ValueError("Epochs are missing")
        return self


@pytest.mark.parametrize(
    ("value", "line", "kind"),
    [
        ({"epochs": [1, "hush"]}, "epochs.1: must be a whole number", "int_parsing"),
        ({"epoch": [1], "epochs": [1]}, "epoch: is not a known field", "extra_forbidden"),
        ({}, "epochs: is required", "missing"),
        ({"epochs": []}, "the plan: epochs are missing", "value_error"),
        ("hush", "the plan: must be an object with named fields", "model_type"),
    ],
)
def test_the_first_field_error_is_one_line_without_the_value(value, line, kind):
    with pytest.raises(ValidationError) as raised:
        Plan.model_validate(value)
    error = first_field_error(raised.value, "the plan")
    assert str(error).startswith(line)
    assert error.kind == kind
    assert "hush" not in str(error)
    assert "\n" not in str(error)
