"""Groups of commands that make, show and measure models, for the tree in `dpiqa.cli.main`."""

from dpiqa.cli.support.groups import GroupSpec

GROUPS = (
    GroupSpec(
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
                (
                    "Check that weights and pulled parts exist and are unchanged, byte for byte. Exits with status 1"
                    " if not."
                ),
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
    ),
    GroupSpec(
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
    ),
    GroupSpec(
        "train",
        "Train models on labelled photographs: the autoencoder, a U-Net on its latents, the teacher, then the student;"
        " or PromptIQA. Or fine-tune one. Settings come from a preset, a TOML file and --set, later ones winning. A"
        " killed run resumes where it stopped.",
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
    ),
    GroupSpec(
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
            "escalation": (
                "evaluate.escalation:escalation",
                "Compare criteria that choose the images for a profile's teacher, at 5, 10, 20 and 40 % of the images.",
            ),
            "distortions": ("evaluate.distortions:distortions", "Show for which kinds of distortion the score falls."),
            "invariance": ("evaluate.invariance:invariance", "Show how far scores move under harmless edits."),
        },
        panel="Making models",
    ),
)
