"""Check that generators of clients accept the OpenAPI document, and that their clients take the README's requests.

    python .ci/api_clients.py

`openapi-python-client` is installed into an environment of its own in `build/`, and its client makes a request of each
kind. `openapi-typescript` and `tsc --strict` come from npm, in the versions of `.ci/typescript/package.json`. Where npm
cannot be had the second half is not done, which is said at once and at the end of `.ci/run`; with `CI_REQUIRE_NPM=1`,
as in the workflow, it is a failure.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "api-clients"
GENERATOR = "openapi-python-client==0.29.1"
#: Bodies that the Python generator has no code for; it writes the route's other bodies.
UNSUPPORTED = re.compile(r"Unsupported content type (text|application)/[\w.-]+")


def main() -> None:
    """Check both. Ends with a line that names the first failure."""
    BUILD.mkdir(parents=True, exist_ok=True)
    document = BUILD / "openapi.json"
    document.write_text(json.dumps(openapi_document()), "utf-8")
    bodies = readme_bodies()
    check_python(document, bodies)
    check_typescript(document, bodies)


def openapi_document() -> dict:
    """Return the document of an application that is connected to nothing."""
    from dpiqa.api.app import create_app  # noqa: PLC0415 - after the arguments were read

    from dpiqa.settings import Settings  # noqa: PLC0415

    settings = Settings(database_url="postgresql://nobody@127.0.0.1/none", broker_url="redis://127.0.0.1:1/0")
    return create_app(settings).openapi()


def readme_bodies() -> list[dict]:
    """Return the bodies of the requests in the README."""
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    commands = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if line.startswith("$ curl ")]
    bodies = [json.loads(words[words.index("-d") + 1]) for words in commands if "-d" in words]
    if not bodies:
        sys.exit("README.md has no request with a body any more")
    return bodies


def check_python(document: Path, bodies: list[dict]) -> None:
    """Generate a client in Python, and let it make requests."""
    environment = BUILD / "python"
    if not (environment / "bin" / "openapi-python-client").exists():
        venv.create(environment, with_pip=True, clear=True)
        run([environment / "bin" / "python", "-m", "pip", "install", "--quiet", GENERATOR])
    client = BUILD / "dpiqa_client"
    shutil.rmtree(client, ignore_errors=True)
    command = ["openapi-python-client", "generate", "--path", document, "--output-path", client, "--meta", "none"]
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"  # it formats its code with the ruff beside it
    output = run(command, env={**os.environ, "PATH": path}, cwd=BUILD)
    warnings = [line for line in output.splitlines() if line and not line.startswith((" ", "{", "}"))]
    known = ("Generating", "Warning(s) encountered", "WARNING parsing POST /v1/jobs/manifest", "If you believe this")
    if unknown := [line for line in warnings if not line.startswith(known) and not UNSUPPORTED.match(line)]:
        sys.exit("openapi-python-client: " + "\n".join(unknown))
    script = ROOT / ".ci" / "use_python_client.py"
    run(
        [environment / "bin" / "python", script, json.dumps(bodies)],
        env={**os.environ, "PYTHONPATH": str(BUILD)},
        cwd=BUILD,
    )
    sys.stdout.write("openapi-python-client: the client is generated and makes the README's requests\n")


def check_typescript(document: Path, bodies: list[dict]) -> None:
    """Generate types, and check a program that uses them."""
    folder = BUILD / "typescript"
    shutil.copytree(ROOT / ".ci" / "typescript", folder, dirs_exist_ok=True)
    try:
        run(
            ["npm", "ci" if (folder / "package-lock.json").exists() else "install", "--no-audit", "--no-fund"],
            cwd=folder,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"types for TypeScript were not checked: npm: {error}"
        if os.environ.get("CI_REQUIRE_NPM") == "1":
            sys.exit(reason)
        sys.stdout.write(f"{reason}\n")
        with (ROOT / "build" / "not-done.txt").open("a", encoding="utf-8") as not_done:
            not_done.write(f"{reason}\n")
        return
    run(["npx", "openapi-typescript", document, "-o", "api.d.ts"], cwd=folder)
    (folder / "readme.ts").write_text(
        'import type { paths } from "./api";\n'
        'type Body = paths["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"];\n'
        f"export const README: Body[] = {json.dumps(bodies)};\n",
        "utf-8",
    )
    run(["npx", "tsc", "--project", "."], cwd=folder)
    sys.stdout.write("openapi-typescript: `tsc --strict` accepts a program that makes the README's requests\n")


def run(command: list, **options: object) -> str:
    """Return what a command prints. Shows it where it fails."""
    done = subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    if done.returncode != 0:
        sys.stdout.write(done.stdout)
        raise subprocess.CalledProcessError(done.returncode, command[0])
    return done.stdout


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failed:
        sys.exit(str(failed))
