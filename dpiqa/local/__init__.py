"""The embedded default: Postgres, Valkey and S3/SQS on loopback, and the supervisor that runs everything."""
