"""`python -m meanteacher …` is the command `meanteacher …`; torchrun starts it so."""

import sys

from meanteacher.config.cli import main

if __name__ == "__main__":
    sys.exit(main())
