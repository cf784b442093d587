"""Training of models on labelled photographs: the runs, their configuration, their data and the loop."""
