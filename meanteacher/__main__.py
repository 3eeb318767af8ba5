"""`python -m meanteacher …` runs the command `meanteacher …`; torchrun starts it this way."""

import sys

from meanteacher.config.cli import main

if __name__ == "__main__":
    sys.exit(main())
