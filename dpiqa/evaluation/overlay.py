"""A picture with what its regions do to the score laid over it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from dpiqa.evaluation.plots import new_figure
from dpiqa.evaluation.saliency import Saliency

_LONGEST = 1200  #: pixels of the longer side that are drawn
_INCHES = 7.0  #: of the picture's longer side
_LEAST = 0.02  #: MOS/100 at the ends of the colour bar at least: smaller effects shall not look large
_OPAQUE = 0.6  #: how much of the picture the strongest effect covers; where there is none, nothing is covered
_COLOURS = "RdBu"


def overlay(image: Image.Image, found: Saliency, *, title: str) -> Figure:
    """Draw the picture at its own aspect ratio, red where the score is pulled down, blue where it is held up."""
    shown = image.convert("L")  # without its colours, so that red and blue are the map's alone
    shown.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
    width, height = shown.size
    scale = _INCHES / max(width, height)
    figure = new_figure(max(width * scale, 3.2) + 1.3, max(height * scale, 3.2) + 0.5)
    axes: Axes = figure.subplots()
    effect = enlarge(found.effect, width, height)
    ends = max(float(np.abs(found.effect).max()), _LEAST)
    norm = Normalize(-ends, ends)
    axes.imshow(np.asarray(shown), cmap="gray", vmin=0, vmax=255)
    axes.imshow(effect, cmap=_COLOURS, norm=norm, alpha=_OPAQUE * np.sqrt(np.clip(np.abs(effect) / ends, 0, 1)))
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    bar = figure.colorbar(ScalarMappable(norm, _COLOURS), ax=axes, pad=0.02, aspect=30)
    legend = "the region's own score minus the picture's (MOS/100)\nred pulls it down, blue holds it up"
    bar.set_label(legend, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def enlarge(cells: np.ndarray, width: int, height: int) -> np.ndarray:
    """Enlarge (8, 8) values smoothly to (height, width)."""
    picture = Image.fromarray(cells.astype(np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
