"""What one image may cost."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from dpiqa.settings import Settings


class Limits(BaseModel):
    """Bounds on one image; beyond any of them it is rejected, never scored from a part."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_bytes: PositiveInt = 64 * 1024 * 1024  #: of the file
    max_pixels: PositiveInt = 50_000_000  #: width x height, read from the header before decoding
    max_side: PositiveInt = 16_384  #: pixels, either side
    seconds: PositiveFloat = 10.0  #: wall time of decoding and resizing, enforced by `DecodePool`
    memory_bytes: PositiveInt = 2 * 1024**3  #: address space of a decode process, enforced by `DecodePool`

    @classmethod
    def from_settings(cls, settings: "Settings") -> "Limits":
        """Take the limits that a deployment configured."""
        return cls(
            max_bytes=settings.max_image_bytes,
            max_pixels=settings.max_image_pixels,
            max_side=settings.max_image_side,
            seconds=settings.decode_seconds,
            memory_bytes=settings.decode_memory_bytes,
        )
