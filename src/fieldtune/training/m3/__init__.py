"""Training of one encoder for dense, sparse and multi-vectors together."""
