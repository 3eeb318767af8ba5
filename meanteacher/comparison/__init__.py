"""Compares runs by their `result.json`: reads and groups results, computes the numbers, and shows them.

Imported by `sweeps` and by the command `meanteacher compare`. May import `config`, and of `runs` only the result type.
Does not import torch.
"""
