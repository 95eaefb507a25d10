"""Events about requests, and their delivery to Kafka."""
