"""HTML pages from Jinja templates."""

from pathlib import Path
from typing import Any


def render(template: Path, **content: Any) -> str:
    """The page that a template file makes of its content. Text is escaped unless the template marks it as safe.

    The folder of the template is searched for templates that it includes. Raises jinja2.UndefinedError for a name that
    `content` lacks.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(content)
