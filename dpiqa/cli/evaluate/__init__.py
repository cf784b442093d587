"""`dpiqa evaluate`."""
