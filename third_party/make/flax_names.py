"""Writes `../flax_names.json`: the names and shapes of the parameters of Flax's classes, for each reference checkpoint.

Run by a Python that has transformers 4.57.6 (the last line with Flax) and flax: `make fixtures` does. Nothing is loaded
or computed; the names are what `flax_model.msgpack` holds for that class.
"""

import json
from pathlib import Path
from typing import Any

import transformers
from flax.traverse_util import flatten_dict

HERE = Path(__file__).parents[1]
FAMILIES = ("bert", "distilbert", "electra", "roberta", "vit")


def names_of(folder: Path) -> dict[str, list[int]] | None:
    """Shapes by name, joined by `/`; None of a class that Flax never had."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    flax_class = getattr(transformers, f"Flax{config['architectures'][0]}", None)
    oblong = isinstance(config.get("image_size"), list)  # Flax's ViT takes a square, and a pooler of the hidden size
    pooled = config.get("pooler_output_size", config.get("hidden_size")) != config.get("hidden_size")
    if flax_class is None or folder.name == "base_no_pooler" or oblong or pooled:
        return None
    model: Any = flax_class(transformers.AutoConfig.from_pretrained(folder), _do_init=False)
    return {name: list(shape.shape) for name, shape in flatten_dict(model.params_shape_tree, sep="/").items()}


def main() -> None:
    transformers.logging.set_verbosity_error()
    found = {}
    for family in FAMILIES:
        for folder in sorted((HERE / family).iterdir()):
            plain = not folder.name.startswith(("act_", "dropout", "eps_", "pad_", "token_types"))
            if (folder / "config.json").is_file() and plain and (names := names_of(folder)) is not None:
                found[f"{family}/{folder.name}"] = names
    lines = [f"{json.dumps(checkpoint)}: {json.dumps(names, sort_keys=True)}" for checkpoint, names in found.items()]
    (HERE / "flax_names.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(len(found), "checkpoints")


if __name__ == "__main__":
    main()
