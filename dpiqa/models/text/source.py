"""What is known about a checkpoint's text embeddings. Free of torch; part of the teacher's card."""

from pydantic import BaseModel, ConfigDict, Field

from dpiqa.models.prompts import Pooling


class TextSource(BaseModel):
    """Which texts, through which encoder. A card has it as `architecture.text`, an embeddings file as its metadata."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompts: str  #: name of the table, e.g. `published-1485`; of the file for embeddings somebody else made
    encoder: str = "unknown"  #: `NAME@` and the start of the sha256 of its weights
    pooling: Pooling | None = None  #: None: unknown
    reconstructed: bool = False  #: whether some of the words are a guess, see `PromptTable.reconstructed`
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  #: of the embeddings' content
    made_from: str = ""  #: sha256 of all that went in: texts, tokens, weights, pooling; "" if unknown
