"""HTML pages from Jinja templates."""

from pathlib import Path
from typing import Any


def render(template: Path, **content: Any) -> str:
    """The page that a template file makes of its content. Text is escaped unless the template marks it as safe.

    The folder of the template is searched for templates that it includes. Bytes of file names that are not UTF-8 become
    question marks, so that the page can be written as UTF-8. Raises jinja2.UndefinedError for a name that `content`
    lacks.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template.name).render(content)
    return page.encode("utf-8", errors="replace").decode()
