"""Libraries that compute a student's network, and the check that each gives the scores of eager PyTorch."""
