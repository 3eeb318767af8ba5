"""Labels for a trained run: which images to label next, and which labels may be wrong.

Imports `inference` and everything below it.
"""
