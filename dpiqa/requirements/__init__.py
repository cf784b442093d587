"""Requirements: named, versioned lists of image-score pairs that tell PromptIQA what quality means here."""
