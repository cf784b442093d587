"""Sizes of students, published or our own: what a card's `architecture` says of one."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from dpiqa.imaging.preprocessing import Preprocessing, ResizeFilter
from dpiqa.models.regressor import MapPooling
from dpiqa.models.scene_statistics import check_size


class StudentConfig(BaseModel):
    """Sizes of a student, published or our own. The defaults are the published model's (81 M parameters)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str = "efficientnet_b7"  #: any timm EfficientNet of stride 32
    backbone_args: dict[str, Any] = Field(default_factory=dict)  #: further arguments of timm's builder
    batchnorm_eps: float = 1e-3
    pixel_mean: float = 0  #: of 1; the backbone sees (pixel - mean) / deviation
    pixel_deviation: PositiveFloat = 1  #: of 1
    input_size: int = 512  #: pixels a side
    resize_filter: ResizeFilter = ResizeFilter.BILINEAR
    enlarge_to: PositiveInt | None = None  #: see `Preprocessing`
    view_size: PositiveInt | None = None  #: the score is the mean over views of so many pixels; None: the whole picture
    shrink: PositiveInt = 1  #: pixels a side that are averaged to one before the backbone sees the picture
    map_channels: int = 8  #: of the feature map, from the backbone; `map_size` and these are not used with STAGES
    #: further ones, from scene statistics at the picture's own size; with STAGES any number means all, unmixed
    statistics_channels: NonNegativeInt = 0
    map_size: int = 64  #: cells a side
    pooling: MapPooling = MapPooling.CELLS
    dropout: float = Field(0, ge=0, lt=1)  #: of the first hidden units, and a third of it of what the regressor sees
    hidden: int = 512  #: units of the first hidden layer; with STAGES the second has a quarter of them

    @model_validator(mode="after")
    def _cells_fit(self) -> "StudentConfig":
        check_size(self.statistics_channels, self.input_size)
        if self.pooling is MapPooling.STAGES and self.shrink != 1:
            raise ValueError('pooling = "stages" reads the picture at its own size: leave out shrink')
        return self

    @property
    def preprocessing(self) -> Preprocessing:
        """Return the preprocessing of the network's input."""
        size = self.input_size
        return Preprocessing(width=size, height=size, filter=self.resize_filter, enlarge_to=self.enlarge_to)

    @property
    def is_published(self) -> bool:
        """Return whether `Student` is the network of these sizes; otherwise one of our own is."""
        return self.shrink == 1 and not self.statistics_channels and self.pooling is MapPooling.CELLS

    @property
    def channels(self) -> int:
        """Number of channels of the whole feature map."""
        return self.map_channels + self.statistics_channels
