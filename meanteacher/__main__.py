"""Runs the command `meanteacher` as `python -m meanteacher`, the form that torchrun starts."""

import sys

from meanteacher.config.cli import main

if __name__ == "__main__":
    sys.exit(main())
