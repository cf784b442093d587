"""Training on labelled photographs: `runs` are what can be trained, `config` describes a run, `data` feeds it.

`loop` makes the updates of every run.
"""
