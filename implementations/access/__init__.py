"""Keys and addresses: whose key it is, where the administrators are."""
