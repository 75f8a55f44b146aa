from uses_terms import icd

__all__ = ["icd"]
