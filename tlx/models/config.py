"""What the configs of backbones have in common: how they are read, checked and written."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from tlx.errors import TlxError, listed
from tlx.models.activations import check_activation
from tlx.models.heads import HeadSettings
from tlx.models.names import Names

LARGEST = 10_000_000  # of any size in a config: beyond every published encoder, and a shape that still fits an integer
MOST_BLOCKS = 1_000


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """Base of the families' configs, whose fields are those of a Hugging Face config that decide the forward pass,
    under their names there.

    model_type: Hugging Face's. family: the name in sentences. renamed: what a field is called in most families -> here.
    modality: what it takes, by the name in `tlx/modalities/open.py`.
    layer_decay_convention: how this family's learning rates usually fall towards the embeddings (optim/layerwise.py).
    names: which tensors of a checkpoint its parameters are; without it none is read or written.
    neutral: what a config may hold beside the fields, and the values that change nothing; any other value asks for
      another model.
    """

    model_type: ClassVar[str]
    family: ClassVar[str]
    modality: ClassVar[str]
    renamed: ClassVar[Mapping[str, str]] = {}
    layer_decay_convention: ClassVar[str] = "bert"
    names: ClassVar[Names | None] = None
    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "is_decoder": (False, None),
        "add_cross_attention": (False, None),
        "is_encoder_decoder": (False, None),
        "pruned_heads": ({}, None),
        "cross_attention_hidden_size": (None,),
        "quantization_config": (None,),
    }

    drop_path_rate: float = 0.0  # of stochastic depth, at the last block; no field of these families' own

    if typing.TYPE_CHECKING:  # a field of every family
        initializer_range: float = 0.02

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            self._check(field.name, getattr(self, field.name), hints[field.name])
        check_activation(self.activation_name)
        size, heads = (getattr(self, self.renamed.get(name, name)) for name in ("hidden_size", "num_attention_heads"))
        if size % heads:
            names = [self.renamed.get(name, name) for name in ("hidden_size", "num_attention_heads")]
            raise TlxError(f"{names[0]} {size} is not a multiple of {names[1]} {heads}.")
        if self.num_blocks > MOST_BLOCKS:
            raise TlxError(f"this config has {self.num_blocks} blocks; tlx takes up to {MOST_BLOCKS}.")

    def _check(self, name: str, value: Any, hint: Any) -> None:
        """A value that came from a file has the field's type, and a size is one."""
        kinds = typing.get_args(hint) or (hint,)
        plain = tuple(typing.get_origin(kind) or kind for kind in kinds)
        fine = isinstance(value, (*plain, int) if float in plain else plain)
        if not fine or (isinstance(value, bool) and bool not in plain):
            wanted = " or ".join(getattr(kind, "__name__", str(kind)) for kind in plain).replace("NoneType", "null")
            raise TlxError(f"{name} is {value!r} in this {self.family} config; it is {wanted}.")
        if "dropout" in name or name == "drop_path_rate":
            if value is not None and not 0 <= value < 1:
                raise TlxError(f"{name} is {value}; a dropout rate is at least 0 and below 1.")
        elif isinstance(value, int | tuple) and not isinstance(value, bool) and name != "pad_token_id":
            sizes = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(size, int) and 1 <= size <= LARGEST for size in sizes):
                raise TlxError(f"{name} is {value} in this {self.family} config; it is 1 to {LARGEST}.")

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], **changes: Any) -> Self:
        """From the content of a `config.json`. What would change the numbers and is not supported is refused.

        changes: of fields, under this family's names or those of most families; `add_pooling_layer` where there is one.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        refused = [
            f"{k}={config[k]!r}"
            for k, fine in cls.neutral.items()
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
        del facts["drop_path_rate"]  # of training here
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
    def block_paths(self) -> tuple[str, ...]:
        """Where the embeddings and the numbered blocks stand in the backbone's parameters, from the bottom up."""
        return ("embeddings", *(f"encoder/layer/{i}" for i in range(self.num_blocks)))

    @property
    def head_settings(self) -> HeadSettings:
        """How this family's heads read."""
        raise NotImplementedError
