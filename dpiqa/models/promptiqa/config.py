"""Sizes of a PromptIQA network. Free of torch."""

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

from dpiqa.imaging.preprocessing import Preprocessing, ResizeFilter

#: Scale of a checkpoint's card; that of a scorer's card names the requirement.
SCORE_SCALE = "0-1 on the scale of the requirement, which says whether higher is better"


class PromptIQAConfig(BaseModel):
    """The defaults are the published model's (318 M parameters); any other sizes that fit together may be chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: PositiveInt = 224  #: pixels a side
    patch_size: PositiveInt = 8  #: pixels a side of a ViT token
    vit_width: PositiveInt = 768
    vit_depth: PositiveInt = 12
    vit_heads: PositiveInt = 12
    taps: tuple[int, ...] = (2, 5, 8, 11)  #: ViT blocks, from 0, whose outputs are used
    views: PositiveInt = 3  #: multi-view attention learners side by side
    query_width: PositiveInt = 96  #: of the queries and keys in the 2-D self-attention
    cnn_channels: tuple[int, int, int] = (256, 128, 128)  #: the last is the width of an image vector and of a prompt
    cnn_kernels: tuple[int, int, int] = (5, 3, 3)
    cnn_pools: tuple[int, int, int] = (2, 2, 3)
    heads: PositiveInt = 4  #: of every Block over image vectors and prompts
    pair_blocks: PositiveInt = 3  #: over the two tokens of one image-score pair
    prompt_blocks: PositiveInt = 3  #: over all prompts of a requirement
    blocks: PositiveInt = 8  #: over the image and the prompts
    dropout: float = 0.1

    @property
    def grid(self) -> int:
        """Return the cells a side of every map: ViT tokens without the class token."""
        return self.image_size // self.patch_size

    @property
    def width(self) -> int:
        """Return D, the length of an image vector and of a prompt feature."""
        return self.cnn_channels[-1]

    @property
    def preprocessing(self) -> Preprocessing:
        """Return the preprocessing of the published model."""
        return Preprocessing(width=self.image_size, height=self.image_size, filter=ResizeFilter.CUBIC_OPENCV)

    @model_validator(mode="after")
    def _fits(self) -> "PromptIQAConfig":
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if not self.taps or max(self.taps) >= self.vit_depth or min(self.taps) < 0:
            raise ValueError(f"taps {self.taps} are not among {self.vit_depth} ViT blocks")
        if self.vit_width % self.vit_heads or self.width % self.heads:
            raise ValueError("every width must be a multiple of its number of heads")
        side = self.grid
        for kernel, pool in zip(self.cnn_kernels, self.cnn_pools, strict=True):
            side = (side - kernel + 1) // pool
        if side != 1:
            raise ValueError(f"the CNN turns {self.grid} x {self.grid} cells into {side} x {side}, not into one")
        return self
