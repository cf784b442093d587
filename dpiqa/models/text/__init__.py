"""From prompts to the embeddings that a teacher's U-Net is conditioned on."""
