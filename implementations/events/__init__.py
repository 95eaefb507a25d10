"""What is told about a request."""
