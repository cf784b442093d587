"""The weights that come with the wheel, each with its card."""
