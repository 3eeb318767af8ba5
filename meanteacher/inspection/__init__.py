"""A look at a folder of images before training: what it contains, what to fix, and a first command.

Reads the images once, without training on them.
"""
