"""Embeddings of prompts, on which a teacher's U-Net is conditioned."""
