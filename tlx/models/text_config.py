"""What the configs of text encoders have in common: how they are read, checked and written."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from tlx.errors import TlxError, listed
from tlx.models.activations import check_activation
from tlx.models.heads import HeadSettings

# What a config may hold, and the values that change nothing; any other value asks for another model.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "is_encoder_decoder": (False, None),
    "pruned_heads": ({}, None),
    "cross_attention_hidden_size": (None,),
    "embedding_size": (None,),
    "sinusoidal_pos_embds": (False, None),
    "quantization_config": (None,),
}
LARGEST = 10_000_000  # of any size in a config: beyond every published encoder, and a shape that still fits an integer
MOST_BLOCKS = 1_000


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """Base of the families' configs, whose fields are those of a Hugging Face config that decide the forward pass,
    under their names there.

    model_type: Hugging Face's. family: the name in sentences. renamed: what a field is called in most families -> here.
    """

    model_type: ClassVar[str]
    family: ClassVar[str]
    renamed: ClassVar[Mapping[str, str]] = {}

    if typing.TYPE_CHECKING:  # fields of every family
        vocab_size: int
        pad_token_id: int | None
        max_position_embeddings: int
        initializer_range: float

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            self._check(field.name, getattr(self, field.name), hints[field.name])
        check_activation(self.activation_name)
        size, heads = (getattr(self, self.renamed.get(name, name)) for name in ("hidden_size", "num_attention_heads"))
        if size % heads:
            names = [self.renamed.get(name, name) for name in ("hidden_size", "num_attention_heads")]
            raise TlxError(f"{names[0]} {size} is not a multiple of {names[1]} {heads}.")
        pad, words = self.pad_token_id, self.vocab_size
        if pad is not None and not -words <= pad < words:
            raise TlxError(f"pad_token_id {pad} is no row of a vocabulary of {words}.")
        if self.num_blocks > MOST_BLOCKS:
            raise TlxError(f"this config has {self.num_blocks} blocks; tlx takes up to {MOST_BLOCKS}.")

    def _check(self, name: str, value: Any, hint: Any) -> None:
        """A value that came from a file has the field's type, and a size is one."""
        kinds = typing.get_args(hint) or (hint,)
        fine = isinstance(value, (*kinds, int) if float in kinds else kinds)
        if not fine or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds).replace("NoneType", "null")
            raise TlxError(f"{name} is {value!r} in this {self.family} config; it is {wanted}.")
        if "dropout" in name:
            if value is not None and not 0 <= value < 1:
                raise TlxError(f"{name} is {value}; a dropout rate is at least 0 and below 1.")
        elif int in kinds and name != "pad_token_id" and not 1 <= value <= LARGEST:
            raise TlxError(f"{name} is {value} in this {self.family} config; it is 1 to {LARGEST}.")

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], **changes: Any) -> Self:
        """From the content of a `config.json`. What would change the numbers and is not supported is refused.

        changes: of fields, under this family's names or those of most families; `add_pooling_layer` where there is one.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        refused = [
            f"{k}={config[k]!r}"
            for k, fine in NEUTRAL.items()
            if k not in fields and k in config and config[k] not in fine
        ]
        if refused:
            raise TlxError(
                f"this {cls.family} config asks for {listed(refused)}; "
                "tlx has the plain encoder with absolute positions."
            )
        changes = {cls.renamed.get(name, name): value for name, value in changes.items()}
        if "add_pooling_layer" not in fields:
            changes.pop("add_pooling_layer", None)
        if unknown := changes.keys() - fields:
            raise TlxError(
                f"a {cls.family} config has no {listed(sorted(unknown))}; it has {listed(sorted(fields), 20)}."
            )
        known = {cls.renamed.get(k, k): v for k, v in config.items()}  # a config may use either name
        return cls(**{**{k: v for k, v in known.items() if k in fields}, **changes})

    def to_hf(self) -> dict[str, Any]:
        """The same facts as a `config.json` holds them."""
        facts = dataclasses.asdict(self)
        facts.pop("add_pooling_layer", None)  # an argument of the model class there, not of its config
        return {"model_type": self.model_type, **facts}

    @property
    def activation_name(self) -> str:
        """Of the feed-forward network."""
        return str(getattr(self, self.renamed.get("hidden_act", "hidden_act")))

    @property
    def num_blocks(self) -> int:
        """How many numbered blocks the backbone has."""
        return int(getattr(self, self.renamed.get("num_hidden_layers", "num_hidden_layers")))

    @property
    def max_length(self) -> int:
        """The longest text, in tokens."""
        return self.max_position_embeddings

    @property
    def block_paths(self) -> tuple[str, ...]:
        """Where the embeddings and the numbered blocks stand in the backbone's parameters, from the bottom up."""
        return ("embeddings", *(f"encoder/layer/{i}" for i in range(self.num_blocks)))

    @property
    def head_settings(self) -> HeadSettings:
        """How this family's heads read."""
        raise NotImplementedError
