"""Write `docs/cli.md`, `configuration.md`, `datasets.md` and the folders of `architecture.md` from the program.

    python docs/make_reference.py

Tests compare them.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined
from typer.main import get_command

from dpiqa.cli.main import app
from dpiqa.cli.support.groups import LazyCommand
from dpiqa.datasets import DATASETS
from dpiqa.datasets.spec import DatasetSpec
from dpiqa.exit_codes import MEANINGS
from dpiqa.settings import AWS_NAMES, PREFIX, Settings

HERE = Path(__file__).parent
ROOT = HERE.parent

CLI_HEAD = """# Command line

Made by `python docs/make_reference.py`; `dpiqa COMMAND --help` says the same.

- A score is MOS/100: nominally 0 to 1, higher is better, never clamped; by a requirement, it is on
  the requirement's scale. `scale` says which.
- Results go to stdout; progress, notes and errors to stderr. An error is one line:
  `error: ... / hint: ...`.
- `--json` prints one JSON document (ASCII) on stdout. Arrays are written row by row, so an export
  of any size streams.
- `--output F` writes `.csv`, `.jsonl` or `.parquet` by the name's ending; the file appears when it
  is complete. Text cells of a CSV that begin with `= + - @` get a leading `'`, so that no
  spreadsheet takes an object key for a formula.
- No colours and no live display where stdout or stderr is not a terminal; no colours with
  `NO_COLOR`. Control characters in keys are shown as escapes.
- Commands find Postgres, the broker and S3 by themselves after `dpiqa local up`, or through the
  settings in [configuration.md](configuration.md).
"""

SETTINGS_HEAD = """# Configuration

Made by `python docs/make_reference.py` from `dpiqa/settings.py`. `dpiqa config show` prints the
values that hold on a machine, without secrets.

Sources, the first that knows a setting wins: the command's own options; environment variables; a
file `.env` in the working directory; for some, AWS's own variable; the connection file of a running
`dpiqa local up`; the default. An empty variable means the default. S3 credentials come from AWS's
own chain (environment, profile, instance role).

| variable | default | meaning |
|---|---|---|
"""
SETTINGS_FOOT = """
Besides: `NO_COLOR` (no colours), and of AWS's own variables whatever boto3 reads.
"""
DATASETS_HEAD = """# Data sets

Made by `python docs/make_reference.py` from `dpiqa/datasets`. Training and evaluation read these
sets in the layouts they are published in; nothing is downloaded, and no set is part of dpiqa.

```console
$ dpiqa datasets check kadid10k --data /data/kadid10k     # images by split, labels, missing files
$ dpiqa evaluate scores bundled-student --dataset kadid10k --data /data/kadid10k
$ dpiqa train student --preset bundled-student --dataset kadid10k --data /data/kadid10k
```

**Labels** become MOS from 0 to 1, higher is better: (label - worst) / (best - worst) on the fixed
scale of the table, never on the lowest and highest labels found, so that a part of a set has the
same labels as the whole. A label beyond an end by up to a twentieth of the scale counts as that end
(some sets have a few); further out it is an error, and in a CSV of your own any label outside the
scale is.

**Splits.** The official split, if there is one, is taken as published. Otherwise the images are
split 80/20 at random from a seed (0 by default), by reference image or group where the set has
them: the same images are on the same sides on every machine, whatever the order of the rows.
Training that chooses its checkpoint on `val` takes a tenth of the training side for it if the set
has no `val`. `--split DIR` of `dpiqa datasets check` reads one of LIQE's ten splits
(`*_train*.txt`, `*_val*.txt`, `*_test*.txt`); `--split random` ignores an official one. The paper's
protocol is the median over five random splits, seeds 0 to 4.

**Missing files.** An image that is listed but does not exist stays in the set: scoring it fails,
and the failure is counted. `check` names the first ones and ends with exit code 1. If all images or
the label file are missing, the error names the expected file and the files found. Names may differ
from the list in upper and lower case.

**Your own images**: a CSV with a header, UTF-8. `image` (or `path`, `file`, `filename`, `name`),
relative to the CSV, and `mos` (or `score`) are required; `split` (`train`, `val`, `test`), `subset`
and `group` (or `near_duplicate_group`: images that must stay on one side of a split) are optional.
For another scale than 0 to 1, name the set `csv:1..5` (worst first), or `csv:100..0` if lower is
better.

```csv
image,mos,split,subset,group
holiday/001.jpg,0.71,train,beach,
holiday/002.jpg,0.34,test,beach,
```

MATLAB and Excel label files need `pip install 'dpiqa[train]'`.

| name | data set | images | labels | worst to best | split |
|---|---|---|---|---|---|
"""
#: Around the table that `architecture_page` writes.
FLOORS_START = "<!-- Made by `make docs` from pyproject.toml and the docstrings. -->\n\n"
FLOORS_END = "\n<!-- End of the made part. -->"
#: Defaults that depend on the machine or on other settings.
COMPUTED = {
    "api_url": "from host and port",
    "decode_processes": "processors, at most 4",
    "home": "`~/.local/state/dpiqa`",
    "models_dir": "`~/.local/share/dpiqa/models`",
}


def main() -> None:
    """Write the pages."""
    (HERE / "cli.md").write_text(cli_page(), "utf-8")
    (HERE / "configuration.md").write_text(configuration_page(), "utf-8")
    (HERE / "datasets.md").write_text(datasets_page(), "utf-8")
    (HERE / "architecture.md").write_text(architecture_page(), "utf-8")


def cli_page() -> str:
    """Return the page of all commands."""
    codes = "\n".join(f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items())
    head = f"{CLI_HEAD}\n| exit code | meaning |\n|---|---|\n{codes}\n| 130 | Ctrl-C |\n"
    return head + "".join(_command_section(words, command) for words, command in commands())


def commands() -> Iterator[tuple[list[str], Any]]:
    """Yield the words and the object of every command that does something, in the order of `--help`."""

    def walk(words: list[str], command: Any) -> Iterator[tuple[list[str], Any]]:
        if isinstance(command, LazyCommand):
            command = command.load()
        subcommands = getattr(command, "commands", None)
        if subcommands is None:
            yield words, command
        for name, subcommand in (subcommands or {}).items():
            if not subcommand.hidden:
                yield from walk([*words, name], subcommand)

    return walk(["dpiqa"], get_command(app))


def _command_section(words: list[str], command: Any) -> str:
    """Return the section of a command: its help, its arguments and options, its examples."""
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
    options = [parameter for parameter in parameters if parameter.param_type_name == "option"]
    names = [parameter.metavar or parameter.name.upper() for parameter in arguments]
    names += [", ".join(parameter.opts) for parameter in options]
    items = [
        _wrapped(f"- `{name}`: {parameter.help}", indent="  ")
        for name, parameter in zip(names, arguments + options, strict=True)
    ]
    examples = [line for line in command.epilog.split("\n\n") if line.startswith("dpiqa")]
    parts = [f"## {' '.join(words)}", *map(_wrapped, command.help.split("\n\n"))]
    parts += ["\n".join(items)] if items else []
    parts.append("```\n" + "\n".join(examples) + "\n```")
    return "\n" + "\n\n".join(parts) + "\n"


def _wrapped(text: str, indent: str = "") -> str:
    """Return a paragraph in lines of up to 100 characters; code in backticks is not broken."""
    words = re.findall(r"(?:`[^`]*`|[^\s`])+", text)
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= 100:
            lines[-1] += f" {word}"
        else:
            lines.append(indent + word)
    return "\n".join(lines)


def configuration_page() -> str:
    """Return the page of all settings."""
    rows = (
        f"| {_variables(name)} | {_default(name, field)} | {(field.description or '').replace('None: ', 'unset: ')} |\n"
        for name, field in Settings.model_fields.items()
    )
    return SETTINGS_HEAD + "".join(rows) + SETTINGS_FOOT


def datasets_page() -> str:
    """Return the page of all data sets."""
    rows = "".join(
        f"| `{spec.name}` | {spec.title} | {f'{spec.size:,}' if spec.size else 'any'} | {spec.label} | {spec.scale} "
        f"| {spec.split} |\n"
        for spec in DATASETS.values()
    )
    return DATASETS_HEAD + rows + "".join(map(_dataset_section, DATASETS.values()))


def _dataset_section(spec: DatasetSpec) -> str:
    facts = {
        "Layout": "; ".join(f"`{line}`" for line in spec.layout),
        "Also read": ", ".join(f"`{file}`" for file in spec.also_read),
        "Stays on one side": spec.groups,
        "Note": spec.note,
        "Terms": spec.terms,
        "Cite": f"{spec.citation}. <{spec.homepage}>" if spec.citation else "",
    }
    lines = "\n".join(_wrapped(f"- {name}: {fact}", indent="  ") for name, fact in facts.items() if fact)
    return f"\n## {spec.title}\n\n{lines}\n"


def architecture_page() -> str:
    """Return the page with its table of floors: the `layers` contracts, each name with its docstring's first line."""
    text = (HERE / "architecture.md").read_text("utf-8")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    outer, inner = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    floors = [outer[0].split(" | "), *([f"dpiqa/{name}" for name in layer.split(" | ")] for layer in inner)]
    rows = "".join(
        f"| {len(floors) - index} | `{name}` | {_first_line(ROOT / name)} |\n"
        for index, names in enumerate(floors)
        for name in names
    )
    before, start, rest = text.partition(FLOORS_START)
    _, end, after = rest.partition(FLOORS_END)
    return f"{before}{start}| floor | name | contents |\n|---|---|---|\n{rows}{end}{after}"


def _first_line(module: Path) -> str:
    file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return docstring.splitlines()[0].rstrip(".")


def _variables(name: str) -> str:
    return ", ".join(f"`{variable}`" for variable in (PREFIX + name.upper(), *AWS_NAMES.get(name, ())))


def _default(name: str, field: Any) -> str:
    if name in COMPUTED:
        return COMPUTED[name]
    if field.default is PydanticUndefined:
        raise SystemExit(f"{name} has a computed default: say which in COMPUTED")
    return f"`{field.default}`" if field.default not in (None, "") else ""


if __name__ == "__main__":
    main()
