"""Many runs by one command: composing them, estimating their cost, launching them, showing progress, comparing them.

Nothing in the package imports this folder; Hydra finds the sweeper through `hydra_plugins.grid`. It may import every other
folder, most of all `comparison`, `runs` and `config`. Importing it does not import PyTorch.
"""
