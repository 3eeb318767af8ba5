"""Everything between what the user wrote and the frozen settings of a run: command line, composition, checks, digest.

The lowest room: every other room may import it, and it imports none of them. Nothing here imports PyTorch, so a mistake
in a configuration is reported within a second.
"""
