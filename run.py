"""Command-line entry point of a checkout: `python run.py …` is `meanteacher train …`."""

import sys

from meanteacher.config.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
