"""`dpiqa`: the tree of commands. A command's module is imported when the command runs, so that `--help` is fast.

To add a command: write its function in the folder of its topic, decorate it with `command`, and add its name, its path
and the first paragraph of its docstring to a table below, or in `model_groups`. Then run `make docs`.
"""

from typing import Annotated

import typer

from dpiqa.cli.model_groups import GROUPS
from dpiqa.cli.support.groups import ErrorLineGroup, add_commands, add_group, new_group
from dpiqa.exit_codes import as_help

HELP = """Blind image quality scores for very large image archives.

A score is MOS/100: nominally 0 to 1, higher is better, never clamped; by a requirement, it is on the requirement's
scale. Results go to stdout, everything else to stderr; --json prints one JSON document. Commands find Postgres, the
broker and S3 by themselves after `dpiqa local up`, or through DPIQA_... variables (`dpiqa config show`)."""

app = new_group(
    "dpiqa",
    HELP,
    [
        "dpiqa score ~/Pictures",
        "dpiqa local up",
        "dpiqa submit s3://photos/2024/ --follow",
        "dpiqa scores --worst 5%",
        as_help(),
    ],
    cls=ErrorLineGroup,
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        from dpiqa import __version__, provenance  # noqa: PLC0415 - slow to import; `--help` does without them

        commit = provenance.commit()
        typer.echo(f"dpiqa {__version__}" + (f" (commit {commit})" if commit else ""))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and its commit, and end.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


add_commands(
    app,
    {
        "score": (
            "scores.score:score",
            "Score images in this process: no queue, no database. For a folder or a quick look.",
        ),
        "gallery": (
            "scores.gallery:gallery",
            "Write the worst images, with scores, percentiles, bands and reasons, as one HTML file.",
        ),
        "explain": (
            "scores.explain:explain",
            "Show which regions pull an image's score down (red) and which hold it up (blue).",
        ),
        "bench": (
            "system.bench:run_bench",
            "Measure how fast images are scored here, step by step, and say what bounds the speed and what to change.",
        ),
        "demo": (
            "system.local:demo",
            "Start everything, upload photographs and distorted copies, and show how they are scored. Ctrl-C ends it.",
        ),
        "submit": (
            "jobs.submit:submit",
            "Queue images for the workers: all under a prefix or in a folder, or those that a manifest names.",
        ),
        "put": (
            "jobs.put:put",
            "Upload files to S3, with the credentials and the endpoint that the other commands use.",
        ),
        "follow": (
            "jobs.follow:follow",
            "Show the progress of a job, its rate, the time left and what it waits for, until it is complete.",
        ),
        "items": ("jobs.jobs:items", "List a job's images: the state of each and, where it was not scored, why."),
        "reconcile": (
            "watches.reconcile:reconcile",
            "Compare a bucket with the ledger: queue what is missing or changed, mark what was deleted.",
        ),
        "reconciliations": (
            "watches.reconcile:reconciliations",
            "List the stored reports of reconciliations, newest first, or show one.",
        ),
        "scores": (
            "scores.scores:scores",
            "Show the scores that count: one for each image under a profile, worst first.",
        ),
        "lookup": (
            "scores.scores:lookup",
            "Show every score of one image: by which model, when, which of them counts, and why it was not scored.",
        ),
        "stats": ("scores.stats:stats", "Count the scores that count: quantiles, histogram, bands, groups."),
        "scorers": ("scores.stats:scorers", "List the scorers that have scored, or show one's model card."),
        "workers": ("scores.stats:workers", "List the live workers: a heartbeat in the last minute."),
        "validate": (
            "scores.validate:validate",
            "Check an exported file, or what `--json` printed, against its schema: says what is wrong, and where.",
        ),
        "audit": (
            "access.audit:audit",
            "Show who submitted, cancelled, deleted, exported, and changed keys and watches, the newest first.",
        ),
        "doctor": (
            "system.doctor:doctor",
            "Check settings, servers, events, queues, keys, workers, profiles, models, device, decoders, disk.",
        ),
    },
)
add_group(
    app,
    "jobs",
    "Jobs: list and steer them. Without a command, list them. A job is named by its id, by the first 6 or more digits"
    " of the id, or by `latest`.",
    ["dpiqa jobs", "dpiqa jobs pause latest", "dpiqa jobs retry 0b9b6f3e --reason access_denied"],
    {
        "list": (
            "jobs.jobs:list_",
            "List the jobs, newest first, with the progress of each. `dpiqa jobs` alone does the same.",
        ),
        "show": (
            "jobs.steer:show",
            "Show one job: counts by state, failures by reason, rate, duration and what it waits for.",
        ),
        "report": (
            "jobs.report:report",
            "List or export the images of a job, at any time: how each ended, why, and its score.",
        ),
        "pause": (
            "jobs.steer:pause",
            "Pause a job: nothing more of it is listed or started. What workers have claimed is finished.",
        ),
        "resume": (
            "jobs.steer:resume",
            "Resume a paused job where it was. A job that was cancelled is reopened by `dpiqa jobs retry`.",
        ),
        "cancel": (
            "jobs.steer:cancel",
            "End a job, or a watch, now. What has been scored stays; the other items end as cancelled.",
        ),
        "retry": (
            "jobs.steer:retry",
            "Open a job's rejected, dead and cancelled items again, whatever the reason, or only some of them.",
        ),
        "priority": (
            "jobs.steer:priority",
            "Set a job's priority: jobs that wait for the same workers share them by it.",
        ),
        "delete": ("jobs.steer:delete", "Delete a job that has ended, and its items. Its results and scores stay."),
        "prune": (
            "jobs.prune:prune",
            "Remove the items of jobs that ended long ago, and what ended long ago of watches.",
        ),
    },
    default="list",
)
add_commands(
    app,
    {
        "worker": (
            "system.processes:worker",
            "Score queued images with the students or the teachers of the profiles. Ctrl-C ends it after its batch.",
        ),
        "listen": (
            "system.processes:listen",
            "Read the S3 events of DPIQA_QUEUE_URL (SQS) and queue the images they name.",
        ),
        "api": (
            "system.processes:api",
            "Serve the HTTP API. Off loopback it needs DPIQA_API_KEY, or DPIQA_REQUIRE_KEY and `dpiqa keys create`.",
        ),
        "flower": (
            "system.processes:flower",
            "Serve Flower, the live view of workers and queues, behind a password and unable to change anything.",
        ),
    },
    rich_help_panel="Processes of the system",
)

add_group(
    app,
    "local",
    "The whole system on this machine's loopback: for demos, laptops, development and tests.",
    ["dpiqa local up"],
    {
        "up": (
            "system.local:up",
            "Start Postgres, Valkey, S3/SQS, listener, workers, API and Flower, and wait until they are ready.",
        ),
        "status": (
            "system.local:status",
            "Show what runs, and where. Exits with status 1 when nothing does or a part is not ready.",
        ),
        "down": ("system.local:down", "Stop everything that `dpiqa local up` started. The data stay."),
    },
)
add_group(
    app,
    "watches",
    "Standing watches: what arrives under a prefix is scored. Their events can be checked, set up and tested.",
    ["dpiqa watches add s3://photos/inbox/"],
    {
        "add": (
            "watches.watches:add",
            "Score what arrives under a prefix from now on, and what is there; check that the bucket's events arrive.",
        ),
        "check": (
            "watches.watches:check",
            "Check the way of a watch's events: the bucket's notification, the queue's policy, and a probe object.",
        ),
        "list": (
            "watches.watches:list_all",
            "List the standing watches, oldest first: events seen, images, and how far the back-fill is.",
        ),
        "show": (
            "watches.watches:show",
            "Show one watch: events, back-fill, last probe, schedule and last reconciliation.",
        ),
        "remove": (
            "watches.watches:remove",
            "End a watch: its waiting images are not scored any more; scores and results stay.",
        ),
    },
)
add_group(
    app,
    "keys",
    "Keys of the API: what each client may do, in which buckets and prefixes.",
    ["dpiqa keys create dashboard"],
    {
        "create": ("access.keys:create", "Make a key of the API and print it, once: only its hash is stored."),
        "list": (
            "access.keys:list_all",
            "List the live keys by name: what each permits, when it was used last, and when it ends.",
        ),
        "revoke": (
            "access.keys:revoke",
            "Revoke a key, or all keys of a client. API processes refuse it within five seconds; its jobs go on.",
        ),
    },
)
add_group(
    app,
    "callbacks",
    "Callbacks: URLs that are told when a job has ended (`dpiqa submit --callback`).",
    ["dpiqa callbacks secret --new", "dpiqa callbacks test https://example.org/ended"],
    {
        "secret": (
            "access.callbacks:secret",
            "Print the secret with which a receiver verifies callbacks: of the jobs of one client, or of the operator.",
        ),
        "test": (
            "access.callbacks:send_test",
            "Send a signed message of the type `test` to a receiver, once, by the rules for callbacks.",
        ),
    },
)
add_group(
    app,
    "profiles",
    "Profiles: which models score, and which images the teacher sees.",
    ["dpiqa profiles list"],
    {
        "list": ("profiles:list_profiles", "List the built-in profiles and those in DPIQA_PROFILES_DIR."),
        "show": ("profiles:show", "Show one profile: models, cut-offs and margins, the escalated share."),
    },
)
add_group(
    app,
    "requirements",
    "Requirements: image-score pairs that tell a PromptIQA model what quality means here.",
    ["dpiqa requirements list"],
    {
        "create": (
            "requirements:create",
            "Read and check image-score pairs, and keep them with their prompt features as the next version of a name.",
        ),
        "prepare": (
            "requirements:prepare",
            "Make the prompt features that a model lacks: after its checkpoint was replaced, or for another model.",
        ),
        "list": (
            "requirements:list_requirements",
            "List all versions of all requirements, with the direction of their scores.",
        ),
        "show": (
            "requirements:show",
            "Show one version: direction, checks, and each pair with the score that the other pairs give its image.",
        ),
    },
)
add_group(
    app,
    "db",
    "The tables in Postgres.",
    ["dpiqa db upgrade"],
    {
        "upgrade": (
            "system.db:upgrade",
            "Create the tables, or bring them to this version. Idempotent; processes that start together take turns.",
        ),
        "current": (
            "system.db:current",
            "Show which version the tables have, and which this program needs. Exits with status 1 when they differ.",
        ),
        "rollups": (
            "system.db:rollups",
            "Count the results of before an upgrade in the roll-ups now, instead of letting the workers do it.",
        ),
        "revision": (
            "system.db:revision",
            "Write the next migration (for developers): what differs between the program's tables and this database.",
        ),
    },
)
add_group(
    app,
    "config",
    "Show the settings.",
    ["dpiqa config show"],
    {
        "show": (
            "system.config:show",
            "Show every setting as this machine sees it, secrets masked. docs/configuration.md explains each.",
        ),
    },
)


for group in GROUPS:
    add_group(app, group.name, group.text, group.examples, group.commands, panel=group.panel)
