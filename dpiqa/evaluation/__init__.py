"""Evaluation of models: agreement with people's scores, comparison, routing and distortions."""
