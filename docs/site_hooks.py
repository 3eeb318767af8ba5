"""Hooks of `mkdocs build`: results/ becomes part of the site, and formulas become MathML, which needs no script.

The documents link to files of the repository by relative paths, so that they can also be read without the site.
"""

import html
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
PRIME = re.compile(r"<msup>(<mi>[^<]*</mi>)<mi>&#x02032;</mi></msup>")
INDEXED_PRIME = re.compile(r"<msubsup>(<mi>[^<]*</mi>)(<mi>[^<]*</mi>)<mi>&#x02032;</mi></msubsup>")
FUNCTION = re.compile(r"(<mi>(?:log|exp|max|min)</mi>)")
SHOWN = {".md", ".png", ".svg", ".csv", ".json", ".html"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files under results/ to the site, without copying them into docs/."""
    for path in sorted((ROOT / "results").rglob("*")):
        if path.suffix in SHOWN:
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """In the site, results/ lies below the documents instead of beside them."""
    if page.file.src_uri.startswith("results/"):
        return markdown.replace("](../docs/", "](../")
    return markdown.replace("](../results/", "](results/")


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace each formula in LaTeX by MathML."""
    return FORMULA.sub(lambda formula: to_mathml(html.unescape(formula[2])), content)


def to_mathml(latex: str) -> str:
    """MathML for browsers without a mathematical font: primes, bold digits and spaces are ordinary characters."""
    mathml = convert(latex.replace(r"\mathbf{1}", "\N{MATHEMATICAL BOLD DIGIT ONE}"))
    mathml = PRIME.sub(r"<mrow>\1<mi>&#x02032;</mi></mrow>", mathml)
    mathml = INDEXED_PRIME.sub(r"<msub><mrow>\1<mi>&#x02032;</mi></mrow>\2</msub>", mathml)
    return FUNCTION.sub(r'<mspace width=".17em"/>\1<mspace width=".17em"/>', mathml)
