"""The sweeper under the name by which Hydra finds it.

Hydra accepts as a plugin only a class that is defined in the namespace `hydra_plugins`, so a mere import does not suffice.
"""

from meanteacher.sweeps import grid


class Grid(grid.Grid):
    __doc__ = grid.Grid.__doc__
