"""A folder of the local disk as an object store, for tests of the pipeline that need no S3."""

from pathlib import Path

from dpiqa.objects import folder


class FolderStore(folder.FolderStore):
    """The `ObjectStore` of the files below a folder. The bucket's name is only a label."""

    def __init__(self, root: Path) -> None:
        super().__init__([root])
        self._folder = root.resolve()

    def _root(self, bucket: str) -> Path:
        return self._folder
