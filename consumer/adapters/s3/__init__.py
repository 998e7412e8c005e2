"""S3: dead letters, texts that people change, rows that Firehose does not take, archives."""
