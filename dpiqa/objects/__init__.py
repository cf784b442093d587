"""Object stores: S3, and a folder that stands in for one."""
