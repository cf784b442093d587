"""Commands that score images and show scores."""
