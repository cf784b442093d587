"""The backend that a process uses for a model. Free of torch."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from dpiqa.types import Backend, ModelKind, Precision

if TYPE_CHECKING:  # cards import Pillow, which the API does without
    from dpiqa.models.base import ModelCard

#: What `auto` takes on a CPU, the first that is installed: in the order of their measured speed (docs/models.md).
_FASTEST_FIRST = (Backend.OPENVINO, Backend.ONNXRUNTIME)


def chosen_backend(card: "ModelCard", backend: Backend, *, on_gpu: bool) -> Backend:
    """Return the backend that computes a model, never `auto`.

    Models other than students run in eager PyTorch, or in a library of their own, whatever the backend. `auto` follows
    a rule and measures nothing, so that the same installation always makes the same scorer: on a CPU OpenVINO, else
    ONNX Runtime, if it is installed; eager on a GPU, in less precision than float32, and for students that read scene
    statistics, which no other backend computes faster.

    Args:
        card: the model, in the precision that it will run in.
        backend: what the process was told to use.
        on_gpu: whether the model will run on a GPU; of interest for `auto` only.
    """
    if card.kind is not ModelKind.STUDENT:
        return Backend.EAGER
    if backend is not Backend.AUTO:
        return backend
    if on_gpu or card.precision is not Precision.FLOAT32 or card.architecture.get("statistics_channels"):
        return Backend.EAGER
    return next((library for library in _FASTEST_FIRST if find_spec(library) is not None), Backend.EAGER)
