"""From a checkpoint as its authors published it to a model of ours: one safetensors file and its card."""

from dpiqa.models.importing.importer import About, import_checkpoint

__all__ = ["About", "import_checkpoint"]
