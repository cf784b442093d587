"""Networks, checkpoints, cards, and the scorers that are made of them.

`dpiqa.models.cards` and `dpiqa.models.base` are free of torch; `dpiqa.models.loading` imports everything that needs
torch when a scorer is built.
"""
