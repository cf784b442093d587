"""Requirements: named, versioned lists of image-score pairs that define quality for PromptIQA."""
