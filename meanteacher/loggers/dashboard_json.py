"""The JSON that wandb-workspaces sends to W&B for a view.

Written against wandb-workspaces 0.4.13, in which the method `_to_model` is private; tests/loggers/test_dashboard.py fails
if it changes.
"""

import json
from typing import Any


def to_json(view: Any) -> dict:
    """The specification of a `Workspace` or `Report`, as plain builtins."""
    return json.loads(view._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
