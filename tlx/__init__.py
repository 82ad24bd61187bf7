"""Transfer learning in JAX: fine-tune published Hugging Face encoders and export them again.

The names below are imported on first use, so that `import tlx` is fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlx import losses as losses
    from tlx.adapters.lora import Lora as Lora
    from tlx.adapters.model import add_lora as add_lora
    from tlx.adapters.model import merge_lora as merge_lora
    from tlx.errors import TlxError as TlxError
    from tlx.features.transformer import Features as Features
    from tlx.modalities.loaded import Loaded as Loaded
    from tlx.modalities.loaded import load_pretrained as load_pretrained
    from tlx.modalities.loaded import save_pretrained as save_pretrained
    from tlx.models.heads import Head as Head
    from tlx.optim.groups import make_optimizer as make_optimizer
    from tlx.params.partition import merge as merge
    from tlx.params.partition import partition as partition

_MODULES = {
    "Features": "tlx.features.transformer",
    "Head": "tlx.models.heads",
    "Lora": "tlx.adapters.lora",
    "add_lora": "tlx.adapters.model",
    "merge_lora": "tlx.adapters.model",
    "TlxError": "tlx.errors",
    "Loaded": "tlx.modalities.loaded",
    "load_pretrained": "tlx.modalities.loaded",
    "make_optimizer": "tlx.optim.groups",
    "merge": "tlx.params.partition",
    "partition": "tlx.params.partition",
    "save_pretrained": "tlx.modalities.loaded",
}
_PACKAGES = ("losses",)
__all__ = sorted([*_MODULES, *_PACKAGES])


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"tlx.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'tlx' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
