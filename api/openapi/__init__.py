"""The published description of the HTTP interface: a table of operations, examples, and the document made of both."""
