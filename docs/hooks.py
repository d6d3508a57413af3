"""What the site shows although it stands outside docs/: the benchmarks' plots and CONTRIBUTING.md."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

REPO = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    files.append(File.generated(config, 'contributing.md', abs_src_path=str(REPO / 'CONTRIBUTING.md')))
    for plot in (*REPO.glob('benchmarks/*/*.png'), *REPO.glob('benchmarks/*/*.jpg')):
        files.append(File.generated(config, str(plot.relative_to(REPO)), abs_src_path=str(plot)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    return markdown.replace('](../benchmarks/', '](benchmarks/').replace('](../CONTRIBUTING.md', '](contributing.md')


def on_page_content(html: str, **_: object) -> str:
    """Docstrings mark names as Sphinx does."""
    return re.sub(r':(class|func|meth|mod|attr):(?=<code>)', '', html)
