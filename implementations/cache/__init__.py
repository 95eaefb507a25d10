"""The local cache tier and the encoding of entries."""
