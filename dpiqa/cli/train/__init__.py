"""`dpiqa train`."""
