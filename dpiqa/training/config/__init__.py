"""Configuration of a training run: typed documents, presets, files, and the command that gives one of them."""
