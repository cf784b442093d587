"""Exports: scores and the items of a job as CSV, JSON lines or Parquet, to disk, stdout, S3 or an HTTP response."""
