"""Object stores: S3, files of the local disk, and the SQS queue of a bucket's events."""
