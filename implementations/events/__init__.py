"""Events, and their delivery to Kafka."""
