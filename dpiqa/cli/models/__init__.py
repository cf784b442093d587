"""`dpiqa models`."""
