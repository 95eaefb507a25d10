"""What the programs about outages are made of: callers, what Kafka was told, and each measurement in a file."""
