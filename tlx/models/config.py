"""The base class of backbone configs: how a config is read, checked and written."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from tlx.errors import TlxError, listed
from tlx.models.activations import check_activation
from tlx.models.heads import HeadSettings
from tlx.models.names import Names

LARGEST = 10_000_000  # the largest size in a config: above every published encoder, and shapes still fit an integer
MOST_BLOCKS = 1_000


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """Base class of the configs of model families.

    The fields are those of the family's Hugging Face config that affect the forward pass, under the same names.

    Attributes:
      model_type: the `model_type` of Hugging Face configs of this family.
      family: the name of the family in messages.
      modality: the modality of the inputs, by its name in `tlx/modalities/open.py`.
      renamed: fields that this family names differently: {name in most families: name in this family}.
      layer_decay_convention: how layer-wise learning rate decay is usually counted in this family
        (`optim/layerwise.py`).
      names: which tensors of a checkpoint the parameters are; without it no checkpoint is read or written.
      neutral: {name: values} of further Hugging Face settings, with the values that do not change the model. A config
        with any other value is refused.
      has_state: whether the model may have collections beside its parameters, such as batch norm's statistics.
      drop_path_rate: the rate of stochastic depth at the last block.
      attention: the implementation of attention, "xla" or "cudnn" (`models/fused_attention.py`).
      initializer_range: the standard deviation of initial kernels.
    """

    model_type: ClassVar[str]
    family: ClassVar[str]
    modality: ClassVar[str]
    renamed: ClassVar[Mapping[str, str]] = {}
    layer_decay_convention: ClassVar[str] = "bert"
    names: ClassVar[Names | None] = None
    has_state: ClassVar[bool] = False
    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "is_decoder": (False, None),
        "add_cross_attention": (False, None),
        "is_encoder_decoder": (False, None),
        "pruned_heads": ({}, None),
        "cross_attention_hidden_size": (None,),
        "quantization_config": (None,),
    }

    drop_path_rate: float = 0.0  # not a field of Hugging Face's configs
    attention: str = "xla"  # neither

    if typing.TYPE_CHECKING:  # a field of every family
        initializer_range: float = 0.02

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            self._check(field.name, getattr(self, field.name), hints[field.name])
        check_activation(self.activation_name)
        names = [self.renamed.get(name, name) for name in ("hidden_size", "num_attention_heads")]
        size, heads = (getattr(self, name) for name in names)
        if size % heads:
            raise TlxError(f"{names[0]} {size} is not a multiple of {names[1]} {heads}.")
        if self.num_blocks > MOST_BLOCKS:
            raise TlxError(f"this config has {self.num_blocks} blocks; tlx takes up to {MOST_BLOCKS}.")

    def _check(self, name: str, value: Any, hint: Any) -> None:
        """Checks that a field has the annotated type, that a rate is in [0, 1) and that a size is positive."""
        annotated = (hint,) if typing.get_origin(hint) is tuple else typing.get_args(hint) or (hint,)
        types = tuple(typing.get_origin(kind) or kind for kind in annotated)
        matches = isinstance(value, (*types, int) if float in types else types)
        if not matches or (isinstance(value, bool) and bool not in types):
            expected = " or ".join(getattr(kind, "__name__", str(kind)) for kind in types).replace("NoneType", "null")
            raise TlxError(f"{name} is {value!r} in this {self.family} config; it must be {expected}.")
        if "dropout" in name or name == "drop_path_rate":
            if value is not None and not 0 <= value < 1:
                raise TlxError(f"{name} is {value}; a dropout rate is at least 0 and below 1.")
        elif isinstance(value, int | tuple) and not isinstance(value, bool) and name != "pad_token_id":
            sizes = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(size, int) and 1 <= size <= LARGEST for size in sizes):
                raise TlxError(f"{name} is {value} in this {self.family} config; it must be 1 to {LARGEST}.")

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], **changes: Any) -> Self:
        """Creates a config from the content of a Hugging Face `config.json`.

        Args:
          config: the content of the file.
          changes: fields to replace, under this family's names or those of most families. `add_pooling_layer` is
            ignored for a family without a pooler.

        Raises:
          TlxError: if the config has an unsupported setting that changes the model, if a value has the wrong type or
            size, or if `changes` names a field that does not exist.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        refused = [
            f"{k}={config[k]!r}"
            for k, accepted in cls.neutral.items()
            if k not in fields and k in config and config[k] not in accepted
        ]
        if refused:
            raise TlxError(
                f"this {cls.family} config asks for {listed(refused)}; "
                "tlx supports only the plain encoder with absolute positions."
            )
        changes = {cls.renamed.get(name, name): value for name, value in changes.items()}
        if "add_pooling_layer" not in fields:
            changes.pop("add_pooling_layer", None)
        if unknown := changes.keys() - fields:
            raise TlxError(
                f"a {cls.family} config has no {listed(sorted(unknown))}; it has {listed(sorted(fields), 20)}."
            )
        known = {cls.renamed.get(k, k): v for k, v in config.items()}  # a config may use either name
        known.pop("attention", None)  # a setting of tlx
        return cls(**{**{k: v for k, v in known.items() if k in fields}, **changes})

    def to_hf(self) -> dict[str, Any]:
        """Returns the content of a Hugging Face `config.json`."""
        values = dataclasses.asdict(self)
        values.pop("add_pooling_layer", None)  # in transformers an argument of the model class, not of its config
        del values["drop_path_rate"], values["attention"]  # settings of tlx
        return {"model_type": self.model_type, **values}

    @property
    def activation_name(self) -> str:
        """The activation of the feed-forward network."""
        return str(getattr(self, self.renamed.get("hidden_act", "hidden_act")))

    @property
    def head_size(self) -> int:
        """The size of a head of attention."""
        size, heads = (getattr(self, self.renamed.get(k, k)) for k in ("hidden_size", "num_attention_heads"))
        return int(size // heads)

    @property
    def num_blocks(self) -> int:
        """The number of blocks."""
        return int(getattr(self, self.renamed.get("num_hidden_layers", "num_hidden_layers")))

    @property
    def block_paths(self) -> tuple[str, ...]:
        """The paths of the embeddings and the blocks within the backbone's parameters, from the bottom up."""
        return ("embeddings", *(f"encoder/layer/{i}" for i in range(self.num_blocks)))

    @property
    def head_settings(self) -> HeadSettings:
        """The settings of this family's heads."""
        raise NotImplementedError
