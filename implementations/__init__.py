"""What the protocols promise; rooms of helpers beside the classes that implement them."""
