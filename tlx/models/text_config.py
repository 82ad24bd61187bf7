"""What the configs of text encoders have in common: a vocabulary, a padding token, a number of positions."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, ClassVar

from tlx.errors import TlxError
from tlx.models.config import BackboneConfig


@dataclasses.dataclass(frozen=True)
class TextConfig(BackboneConfig):
    """As in `BackboneConfig`."""

    modality: ClassVar[str] = "text"
    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **BackboneConfig.neutral,
        "position_embedding_type": ("absolute", None),
        "embedding_size": (None,),
        "sinusoidal_pos_embds": (False, None),
    }

    if typing.TYPE_CHECKING:  # fields of every family
        vocab_size: int = 0
        pad_token_id: int | None = 0
        max_position_embeddings: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        pad, words = self.pad_token_id, self.vocab_size
        if pad is not None and not -words <= pad < words:
            raise TlxError(f"pad_token_id {pad} is no row of a vocabulary of {words}.")

    @property
    def max_length(self) -> int:
        """The longest text, in tokens."""
        return self.max_position_embeddings
