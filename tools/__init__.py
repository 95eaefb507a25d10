"""Command-line programs around the service; the service does not know them."""
