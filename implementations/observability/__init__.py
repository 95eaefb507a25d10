"""How the process shows what it does."""
