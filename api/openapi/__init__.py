"""The published OpenAPI document: a table of operations, examples, and the code that combines them."""
