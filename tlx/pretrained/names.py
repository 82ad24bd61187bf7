"""The table of a family's tensor names, and how PyTorch orders a kernel's axes."""

from tlx.errors import TlxError
from tlx.models.model import FAMILIES
from tlx.models.names import Names

# Number of axes -> transposition of a kernel: linen's are (in, out) and (height, width, in, out), PyTorch's begin with
# (out, in).
TO_TORCH = {2: (1, 0), 4: (3, 2, 0, 1)}
TO_LINEN = {2: (1, 0), 4: (2, 3, 1, 0)}


def names_of(model_type: str) -> Names:
    """Returns the tensor names of a family; `model_type` is a key of `FAMILIES`.

    Raises:
      TlxError: the family's config has no such table.
    """
    config = FAMILIES[model_type][0]
    if config.names is None:
        raise TlxError(
            f"a {config.family} has no Hugging Face form ({config.__name__} has no table `names`), so that tlx "
            "neither reads nor writes such a checkpoint; begin with model.weights=random, and keep the run directory."
        )
    return config.names
