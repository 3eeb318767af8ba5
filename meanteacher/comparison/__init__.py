"""Compares runs by their `result.json`: reads and groups results, computes the numbers, and draws tables, a picture and a page.

Used by `sweeps` and by the command `meanteacher compare`. May import `runs` (the result type alone) and `config`. Does not
import torch.
"""
