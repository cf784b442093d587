"""PromptIQA (Chen et al., ECCV 2024): scores in the sense of a requirement, a handful of image-score pairs."""
