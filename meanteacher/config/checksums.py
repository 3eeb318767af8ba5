"""Checksums of JSON content, stored beside it, so that a damaged or edited file is noticed when it is read."""

import json
import zlib
from typing import Any


def checksum(content: Any) -> str:
    """Eight hexadecimal digits (CRC-32, as in checkpoints and caches) of the values and their order.

    The layout of a file, such as its line breaks, does not count.
    """
    return f"{zlib.crc32(json.dumps(content).encode()):08x}"
