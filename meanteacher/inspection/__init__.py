"""A look at a folder of images before training: what is in it, what to mend, and the command to start with.

Reads the images once, without training on them.
"""
