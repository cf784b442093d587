"""Sources: readers of the objects that a job names (a prefix, a folder, a manifest, an inventory), page by page."""
