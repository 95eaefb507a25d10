"""Work that nobody asked for: supervised, restarted when it dies."""
