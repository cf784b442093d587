"""Training runs: one module for each kind of model that is trained, and what they have in common."""
