"""Which pages the site of `make docs` has; MkDocs calls what stands here (`hooks` in mkdocs.yml).

Pages of the repository have their paths in the site, so that a link works in both. A link to another file of the
repository leads to a page with its text. Every room of the package has a page of its docstrings, and the commands have
one of their flags: nothing there is written by hand, and nothing can be forgotten.
"""

import ast
import importlib
import pathlib
import posixpath
import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dpconv_jax"
PAGES = (  # tests/test_docs.py reads them too
    *(
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/**/*.md",
        "launch/*.md",
        "benchmarks/*.md",
        "notebooks/*.md",
    ),
    "dpconv_jax/**/*.md",
)
LINK = re.compile(r"(?<=\]\()[^)#\s:]+(?=[)#])")  # the path of a relative link
LEXERS = {
    ".py": "python",
    ".sh": "bash",
    ".sbatch": "bash",
    ".yaml": "yaml",
    ".cff": "yaml",
    ".toml": "toml",
    "": "text",
}
STYLE = "docs/site.css"


# ---- the repository's own pages ----


def found(*patterns: str) -> list[str]:
    """The files of the repository that match, by their paths in it."""
    return sorted({path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)})


def target(page: str, link: str) -> str:
    """What a relative link on a page leads to, as a path in the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def linked(pages: list[str]) -> set[str]:
    """The files that these pages have links to, other pages apart."""
    links = {target(page, link) for page in pages for link in LINK.findall((ROOT / page).read_text(encoding="utf-8"))}
    return {path for path in links - {*pages} if (ROOT / path).is_file()}


def is_source(path: str) -> bool:
    """Whether the site shows a file as a page with its text; others are copied."""
    return (ROOT / path).is_file() and pathlib.Path(path).suffix in LEXERS


def shown(path: str) -> str:
    """The page of the site that has the text of a file."""
    return f"source/{path.removeprefix('.')}.md"


def listing(path: str) -> str:
    """A page with the text of a file."""
    return f"# {path}\n\n`````{LEXERS[pathlib.Path(path).suffix]}\n{(ROOT / path).read_text(encoding='utf-8')}\n`````\n"


# ---- the API ----


def rooms() -> dict[str, list[str]]:
    """The modules of every room of the package by its name, in the order of the alphabet."""
    paths = sorted(path.relative_to(ROOT) for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
    names = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths]
    grouped: dict[str, list[str]] = {}
    for name in sorted(names):
        grouped.setdefault(name.split(".")[1], []).append(name)
    return grouped


def source(module: str) -> str:
    """The text of a module."""
    path = ROOT / module.replace(".", "/")
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


def is_command(module: str) -> bool:
    """Whether `python -m` runs it."""
    return '\nif __name__ == "__main__":\n' in source(module)


def about(module: str) -> str:
    """The first sentence of its docstring."""
    text = ast.get_docstring(ast.parse(source(module))) or ""
    return re.split(r"(?<=[.:])\s|\n\n", text, maxsplit=1)[0].replace("\n", " ").rstrip(":").replace("|", "\\|")


def of_room(room: str, modules: list[str]) -> str:
    """The page of a room."""
    alone = len(modules) == 1
    parts = [f"---\ntitle: {room}\n---\n" if alone else f"# {room}\n"]
    for module in modules:
        parts.append(f"::: {module}\n" + "    options: {heading_level: 1}\n" * alone)
        if is_command(module):
            command = module.removesuffix(".__main__")
            parts.append(f"[Its command](commands.md#{command.replace('.', '')}): `python -m {command}`\n")
    return "\n".join(parts)


def index(grouped: dict[str, list[str]]) -> str:
    """The page that leads to the others."""
    lines = ["# API", "", "::: dpconv_jax", "", "## The rooms of the package", "", "| | |", "|---|---|"]
    lines += [
        f"| [{room}]({room}.md) | {about(modules[0]) or ', '.join(modules)} |" for room, modules in grouped.items()
    ]
    return "\n".join(lines) + "\n"


class _Asked(Exception):
    """A command's parser, at the time when it would have parsed."""


def helps(module: str) -> Iterator[str]:
    """What `--help` prints, of the command and of each of its own commands."""
    from dpconv_jax import cli

    def stop(parser: cli.Parser, *_: Any) -> None:
        raise _Asked(parser)

    with mock.patch.object(cli.Parser, "parse_known_args", stop), mock.patch.dict("os.environ", COLUMNS="110"):
        try:
            importlib.import_module(module).main([])
        except _Asked as error:
            parser = error.args[0]
        yield parser.format_help()
        for action in parser._actions:
            if isinstance(action.choices, dict):
                yield from (below.format_help() for below in action.choices.values())


def commands(modules: list[str]) -> str:
    """The page of all commands."""
    parts = ["# Commands\n"]
    for module in modules:
        parts.append(f"## {module.removesuffix('.__main__')}\n")
        parts += [f"`````text\n{text}`````\n" for text in helps(module)]
    return "\n".join(parts)


def readable(docstring: str) -> str:
    """The same for Markdown, which would take <name> for a tag, ][ for a link, and columns for one long line."""
    parts = []
    for part in docstring.split("\n\n"):
        if len(re.findall(r"(?m)^\S.*\S {2,}\S", part)) > 1:
            parts.append(f"```text\n{part}\n```")
        elif part.startswith("    "):
            parts.append(part)
        else:
            words = part.split("`")
            words[::2] = [re.sub(r"<(?=[a-z])|(?<=\])(?=\[)", r"\\\g<0>", word) for word in words[::2]]
            parts.append("`".join(words))
    return "\n\n".join(parts)


class Docstrings(griffe.Extension):
    """Docstrings for Markdown. That of a field is the comment behind it; commands have a page of their own."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object that was found."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Takes the comment of the first or of the last line."""
        if attr.docstring is None and attr.lineno is not None and attr.endlineno is not None:
            lines = attr.lines_collection[attr.filepath]
            for number in (attr.lineno, attr.endlineno):
                _, _, comment = lines[number - 1].partition("  # ")
                if comment and not comment.startswith(("noqa", "ty:", "fmt:")):
                    attr.docstring = griffe.Docstring(readable(comment), lineno=number, parent=attr)
                    return

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Gives a named tuple the signature that griffe gives a dataclass."""
        if "NamedTuple" in map(str, cls.bases):
            fields = [each for each in cls.members.values() if isinstance(each, griffe.Attribute) and each.annotation]
            kind = griffe.ParameterKind.positional_or_keyword
            taken = [
                griffe.Parameter(each.name, annotation=each.annotation, kind=kind, default=each.value)
                for each in fields
            ]
            made = griffe.Function("__init__", parameters=griffe.Parameters(griffe.Parameter("self"), *taken))
            cls.set_member("__init__", made)

    def on_module_instance(self, *, mod: griffe.Module, **_: Any) -> None:
        """Takes a command's away."""
        if is_command(mod.path):
            mod.docstring = None

    def on_module_members(self, *, mod: griffe.Module, **_: Any) -> None:
        """Names that a room only passes on are described where they are made."""
        if mod.path != "dpconv_jax":
            mod.exports = None


# ---- what MkDocs calls ----


def on_config(config: MkDocsConfig) -> None:
    """Adds the API to the navigation."""
    assert config.nav is not None
    pages = [{room: f"api/{room}.md"} for room in rooms()]
    config.nav.insert(-1, {"API": [{"Overview": "api/index.md"}, {"Commands": "api/commands.md"}, *pages]})


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """The theme's, the repository's, what they link to, and the API."""
    site = Files([file for file in files if file.src_dir != config.docs_dir])
    pages, grouped = found(*PAGES), rooms()
    beside = linked(pages)
    for path in [*pages, STYLE, *sorted(path for path in beside if not is_source(path))]:
        site.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    made = {shown(path): listing(path) for path in sorted(beside) if is_source(path)}
    made |= {f"api/{room}.md": of_room(room, modules) for room, modules in grouped.items()}
    made["api/index.md"] = index(grouped)
    made["api/commands.md"] = commands([each for modules in grouped.values() for each in modules if is_command(each)])
    for path, text in made.items():
        site.append(File.generated(config, path, content=text))
    return site


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Leads links to source files to the pages with their text; a | in code needs no backslash here, as on GitHub."""
    this = page.file.src_uri

    def led(link: re.Match[str]) -> str:
        path = target(this, link[0])
        return posixpath.relpath(shown(path), posixpath.dirname(this) or ".") if is_source(path) else link[0]

    markdown = re.sub(r"`[^`\n]+`", lambda code: code[0].replace("\\|", "|"), markdown)
    return LINK.sub(led, markdown)
