"""What a purchase costs."""
