"""Published weights that can be pulled: their table, their sources, and what was pulled. Free of torch."""
