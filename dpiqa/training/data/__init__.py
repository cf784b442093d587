"""Training data: labelled pictures, what is computed from them once and kept on disk, and batches."""
