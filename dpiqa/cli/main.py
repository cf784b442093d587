"""`dpiqa`: the tree of commands. A command's module is imported when the command runs, so that `--help` is fast.

To add a command: write its function in the folder of its topic, decorate it with `command`, and add its name, its path
and the first paragraph of its docstring to a table below. Then run `make docs`.
"""

from typing import Annotated

import typer

from dpiqa import __version__
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
        typer.echo(f"dpiqa {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", callback=_print_version, is_eager=True)
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
        "explain": (
            "scores.explain:explain",
            "Show which regions pull an image's score down (red) and which hold it up (blue).",
        ),
        "demo": (
            "system.local:demo",
            "Start everything, upload photographs and distorted copies, and show how they are scored. Ctrl-C ends it.",
        ),
        "submit": (
            "jobs.submit:submit",
            "Queue images for the workers: all under a prefix or in a folder, or those that a manifest names.",
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
            "Check an exported file against its schema, value by value: says what is wrong, by line and column.",
        ),
        "doctor": (
            "system.doctor:doctor",
            "Check settings, database, broker, S3, event queue, models, workers, device and disk.",
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
        "api": ("system.processes:api", "Serve the HTTP API. Off loopback it needs DPIQA_API_KEY."),
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
    "models",
    "Models: what scored, how well, under which licence.",
    ["dpiqa models list"],
    {
        "list": ("models.cards:list_models", "List the bundled models and those in DPIQA_MODELS_DIR."),
        "show": (
            "models.cards:show",
            "Show a model card: architecture, data and its terms, measured figures, known failures.",
        ),
        "verify": (
            "models.cards:verify",
            "Check that weights and pulled parts exist and are unchanged, byte for byte. Exits with status 1 if not.",
        ),
        "import": (
            "models.published:import_file",
            "Make a model of a published checkpoint: one safetensors file with a card, in DPIQA_MODELS_DIR.",
        ),
        "remove": (
            "models.cards:remove",
            "Delete a model's card and weights. Scores that it made stay; a profile that names it stops working.",
        ),
        "pull": ("models.published:pull", "Fetch weights that others published, and make a model of them."),
        "prompts": (
            "models.prompts:prompts",
            "List the tables of prompts, or print all texts of one, in the order of their embeddings.",
        ),
        "embed-text": (
            "models.prompts:embed_text",
            "Embed a table's prompts with CLIP's text encoder, for `dpiqa models import --text-embeddings`.",
        ),
        "reference": (
            "models.reference:reference",
            "Score a population of images, and keep in the model's card how their scores are distributed.",
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
add_group(
    app,
    "datasets",
    "Data sets: which can be read, in which layout.",
    ["dpiqa datasets list"],
    {
        "list": ("datasets:list_datasets", "List the data sets that can be read."),
        "show": (
            "datasets:show",
            "Show a data set: the layout expected, its labels and splits, its terms, how to cite it.",
        ),
        "check": (
            "datasets:check",
            "Read a data set's labels and summarise them: images by split, labels by tenths of MOS, missing files.",
        ),
    },
)
add_group(
    app,
    "train",
    "Train models on labelled photographs: the autoencoder, a U-Net on its latents, the teacher, then the student; or"
    " PromptIQA. Or fine-tune one. Settings come from a preset, a TOML file and --set, later ones winning. A killed run"
    " resumes where it stopped.",
    ["dpiqa train student --preset finetune-student --dataset csv --data labels.csv --out runs/mine --name mine"],
    {
        "vae": (
            "train:vae",
            "Train the autoencoder whose latents the teacher reads. The labels' scores are not used.",
        ),
        "diffusion": (
            "train:diffusion",
            "Pre-train a teacher's U-Net by denoising the autoencoder's latents. The labels' scores are not used.",
        ),
        "teacher": (
            "train:teacher",
            "Train or fine-tune a teacher: the diffusion prior with its quality feature decoder.",
        ),
        "student": (
            "train:student",
            "Train or fine-tune a student, from labels alone or from a teacher's outputs too (distillation).",
        ),
        "promptiqa": (
            "train:promptiqa",
            "Train or fine-tune a PromptIQA model, which scores by a requirement's image-score pairs.",
        ),
    },
    panel="Making models",
)
add_group(
    app,
    "evaluate",
    "Measure models: against human scores, against each other, as a profile's routing, or on distorted pictures.",
    ["dpiqa evaluate scores bundled-student --dataset koniq10k --data ~/data/koniq10k"],
    {
        "scores": (
            "evaluate.scores:scores",
            "Compare a model's scores with human scores: SRCC, PLCC, KRCC and RMSE with 95 % intervals.",
        ),
        "compare": (
            "evaluate.compare:compare",
            "Compare several models on one data set, with 95 % intervals of their differences from the first.",
        ),
        "routing": (
            "evaluate.routing:routing",
            "Compare a profile's routing with its student alone and with escalating at random.",
        ),
        "distortions": ("evaluate.distortions:distortions", "Show for which kinds of distortion the score falls."),
        "invariance": ("evaluate.invariance:invariance", "Show how far scores move under harmless edits."),
    },
    panel="Making models",
)


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="dpiqa")
