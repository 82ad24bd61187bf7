"""The base class of text encoders' configs: a vocabulary, a padding token, a number of positions."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, ClassVar

from tlx.errors import TlxError
from tlx.models.config import BackboneConfig


@dataclasses.dataclass(frozen=True)
class TextConfig(BackboneConfig):
    """Base class of the configs of text families.

    Attributes:
      vocab_size: the number of tokens in the vocabulary.
      pad_token_id: the id of the padding token; negative ids count from the end; None without one.
      max_position_embeddings: the number of rows of the position embeddings.
    """

    modality: ClassVar[str] = "text"
    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **BackboneConfig.neutral,
        "position_embedding_type": ("absolute", None),
        "embedding_size": (None,),
        "sinusoidal_pos_embds": (False, None),
    }

    if typing.TYPE_CHECKING:  # every family declares these fields with its own defaults
        vocab_size: int = 0
        pad_token_id: int | None = 0
        max_position_embeddings: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        pad, size = self.pad_token_id, self.vocab_size
        if pad is not None and not -size <= pad < size:
            raise TlxError(f"pad_token_id {pad} is outside the vocabulary of {size} tokens.")

    @property
    def max_length(self) -> int:
        """The largest number of tokens in a text."""
        return self.max_position_embeddings
