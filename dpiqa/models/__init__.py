"""The models: networks, checkpoints, cards and the scorers made of them.

`dpiqa.models.cards` and `dpiqa.models.base` are free of torch; everything that needs torch is imported by
`dpiqa.models.loading` when a scorer is really built.
"""
