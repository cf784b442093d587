"""Check the house rules that no linter knows: words, sizes and lengths. See CONTRIBUTING.md.

    python .ci/house_rules.py

Prints one line per violation, and exits with 1 if there is any.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("dpiqa/", "api/", "workers/")
TOP_FOLDERS = {"api", "benchmarks", "deploy", "docs", "dpiqa", "examples", "migrations", "tests", "workers"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50  #: without the docstring
MIN_MODULE_LINES = 40
MAX_MARKDOWN_COLUMNS = 100  #: outside tables, code and links that cannot be broken

#: Words that are not ours -> the word to use. Searched in code, documents and messages.
WORDS = {
    r"\bcures?\b": "hint",
    r"\bspoil(s|ed|t|ing)?\b": "distort",
    r"\bmend(s|ed|ing)?\b": "fix, correct",
    r"\banew\b": "again",
    r"\bwhoever\b": "the subject itself",
    r"\bthrice\b": "three times",
    r"\bshall\b": "must, will",
    r"(?<!here )\b(is|are) no (?=[a-z])(?!(longer|more|less|better|worse|different)\b)": "is not a",
    r"\b(Room|Workshop|ModelShelf|_Bench|Machinery)\b": "see docs/glossary.md",
    r"\bfates?\b": "outcome",
    r"\bis away\b": "is unavailable",
    r'"""(What|How|Whether|Which) ': "the thing first: a noun, or a verb such as Return",
}
#: Files that quote such words on purpose.
QUOTES_WORDS = {
    ".ci/house_rules.py",
    "CHANGELOG.md",
    "LICENSE",
    "dpiqa/training/config/file.py",  # settings of earlier versions, for the error that names today's
    "tests/unit/training/config/test_file.py",
}

#: Modules of fewer than 40 lines, and the reason why each stands alone.
SHORT_MODULES: dict[str, str] = {
    "api/pages/assets.py": "static files of the pages, which need no key and no template",
    "dpiqa/imaging/thumbnails.py": "thumbnails, by the pages and the gallery",
    "dpiqa/storage/upload_tables.py": "tables, apart from the code that uses them, as the other tables",
    "dpiqa/cli/__main__.py": "entry point of `python -m dpiqa.cli`",
    "dpiqa/cli/system/config.py": "a command: its module is imported when it runs",
    "dpiqa/cli/support/pages.py": "imports the database, which the modules beside it do without",
    "dpiqa/local/__main__.py": "entry point of `python -m dpiqa.local`",
    "dpiqa/models/backbone.py": "shared by students and the teacher's image adapter, apart otherwise",
    "dpiqa/models/backends/onnxruntime_graph.py": "needs an extra",
    "dpiqa/models/brightness.py": "a scorer: each kind of model has its own module, and this one needs no torch",
    "dpiqa/storage/bucket_tables.py": "tables, apart from the code that uses them, as the other tables",
    "dpiqa/storage/measure_tables.py": "tables of one subject, as in the modules beside it",
    "dpiqa/imaging/measured.py": "values without numpy and Pillow, which the ledger and exports import",
    "dpiqa/storage/callback_tables.py": "tables of one subject, as in the modules beside it",
    "dpiqa/storage/label_tables.py": "tables of one subject, as in the modules beside it",
    "dpiqa/storage/report_tables.py": "tables of one subject, as in the modules beside it",
    "dpiqa/http_api/audit.py": "bodies of one resource, as in the modules beside it",
    "dpiqa/__main__.py": "entry point of `python -m dpiqa`",
    "workers/sqs.py": "needs an extra",
}


def main() -> int:
    """Print the violations. Returns the exit code."""
    listing = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True, cwd=ROOT)
    files = [name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]
    violations = [
        *unlisted_words(files),
        *long_markdown_lines(files),
        *missing_paths(files),
        *broken_links(files),
        *sizes([name for name in files if name.startswith(PRODUCT) and name.endswith(".py")]),
    ]
    sys.stdout.write("".join(f"{violation}\n" for violation in violations))
    return 1 if violations else 0


def unlisted_words(files: list[str]) -> Iterator[str]:
    """Yield the places where a word of `WORDS` is used."""
    for name in files:
        if name in QUOTES_WORDS or not name.endswith((".py", ".md", ".toml", ".mako", ".yaml", ".yml", "Makefile")):
            continue
        for number, line in enumerate(lines_of(name), start=1):
            for pattern, replacement in WORDS.items():
                if match := re.search(pattern, line):
                    yield f"{name}:{number}: {match.group()!r}: write {replacement}"


def long_markdown_lines(files: list[str]) -> Iterator[str]:
    """Yield the lines of prose that are too long. Generated pages are as long as the program's texts."""
    for name in files:
        if not name.endswith(".md") or any("docs/make_reference.py" in line for line in lines_of(name)[:4]):
            continue
        in_code = False
        for number, line in enumerate(lines_of(name), start=1):
            in_code ^= line.lstrip().startswith("```")
            if not in_code and len(line) > MAX_MARKDOWN_COLUMNS and not line.startswith("|"):
                yield f"{name}:{number}: {len(line)} characters, at most {MAX_MARKDOWN_COLUMNS}"


def missing_paths(files: list[str]) -> Iterator[str]:
    """Yield the files that a document names and that do not exist."""
    for name in files:
        if not name.endswith(".md") or name == "CHANGELOG.md":
            continue
        for number, line in enumerate(lines_of(name), start=1):
            for path in re.findall(r"`((?:\.?[\w-]+/)+[\w.-]+\.(?:py|toml|mako|yaml|yml))`", line):
                if path.split("/")[0] in TOP_FOLDERS and path not in files:
                    yield f"{name}:{number}: {path} does not exist"


def broken_links(files: list[str]) -> Iterator[str]:
    """Yield the links between documents that lead to no file or no heading."""
    for name in files:
        if not name.endswith(".md"):
            continue
        text = (ROOT / name).read_text("utf-8")
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = link.partition("#")
            if ":" in path:
                continue
            target = (ROOT / name).parent / path if path else ROOT / name
            if not target.exists():
                yield f"{name}: {link}: no such file"
            elif anchor and anchor not in anchors(target):
                yield f"{name}: {link}: no such heading"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sizes(modules: list[str]) -> Iterator[str]:
    """Yield the files and functions that are too long, and the modules that are too short to stand alone."""
    for name in modules:
        length = len(lines_of(name))
        if length > MAX_FILE_LINES:
            yield f"{name}: {length} lines, at most {MAX_FILE_LINES}"
        if length < MIN_MODULE_LINES and not name.endswith("__init__.py") and name not in SHORT_MODULES:
            yield f"{name}: {length} lines: merge it into a module of its subject, or give the reason in SHORT_MODULES"
        for node in ast.walk(ast.parse((ROOT / name).read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                lines = node.body[-1].end_lineno - first.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    yield f"{name}:{node.lineno}: {node.name} has {lines} lines, at most {MAX_FUNCTION_LINES}"
    for name in SHORT_MODULES:
        if name not in modules or len(lines_of(name)) >= MIN_MODULE_LINES:
            yield f"{name}: is not a short module any more: remove it from SHORT_MODULES in .ci/house_rules.py"


def lines_of(name: str) -> list[str]:
    """Return the lines of a file of the repository."""
    return (ROOT / name).read_text("utf-8").splitlines()


if __name__ == "__main__":
    sys.exit(main())
