"""What others have published and can be pulled, and where it is. Free of torch."""

from dpiqa.models.catalogue.entries import Entry, catalogue, find_entry

__all__ = ["Entry", "catalogue", "find_entry"]
