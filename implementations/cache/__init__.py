"""How answers are kept: the local tier and the form of an entry."""
