"""Writes the sample files beside this one with the libraries that users' checkpoints come from.

    PYTHON_WITH_TORCH third_party/formats/make.py torch     # the folders torch_… and safetensors…
    PYTHON_WITH_FLAX  third_party/formats/make.py flax      # the folders msgpack…

Every folder is a checkpoint's folder without its config; `expected.npz` in it holds each tensor's bits (bfloat16 as
`NAME:bfloat16`, uint16). Numbers come from numpy's frozen generator, so that the same versions write the same bytes.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
random = np.random.Generator(np.random.PCG64(20))


def folder(name):
    shutil.rmtree(HERE / name, ignore_errors=True)
    (HERE / name).mkdir()
    return HERE / name


def write_expected(where, arrays):
    """`arrays` by name, bfloat16 already as uint16 under `NAME:bfloat16`."""
    np.savez_compressed(where / "expected.npz", **arrays)


def with_torch():
    import torch
    from safetensors.torch import save_file

    def draw(*shape):
        return torch.from_numpy(random.standard_normal(shape, np.float32))

    def expect(where, tensors):
        bits = {}
        for name, tensor in tensors.items():
            tensor = tensor.detach().clone().contiguous()
            sixteen = tensor.dtype == torch.bfloat16
            bits[f"{name}:bfloat16" if sixteen else name] = (tensor.view(torch.int16) if sixteen else tensor).numpy()
            if sixteen:
                bits[f"{name}:bfloat16"] = bits[f"{name}:bfloat16"].view(np.uint16)
        write_expected(where, bits)

    def count_storages():  # the older form names storages by their address, which differs from run to run
        seen = {}
        torch.UntypedStorage._cdata = property(lambda storage: 10000 + seen.setdefault(storage.data_ptr(), len(seen)))

    def kinds():
        numbers = draw(5, 3) * 50
        kinds = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
        return {
            f"kind.{kind}": (numbers.abs() if kind == "uint8" else numbers).to(getattr(torch, kind)) for kind in kinds
        }

    def views():
        base = draw(6, 8)
        return {
            "base": base,
            "tied": base,
            "tied.transposed": base.T,
            "transposed": draw(4, 7).T,
            "permuted": draw(2, 3, 4).permute(2, 0, 1),
            "every.second": draw(4, 9)[:, ::2],
            "rows.2.to.4": draw(6, 5)[2:4],
            "expanded": draw(3, 1).expand(3, 4),
            "half.transposed": draw(3, 5).bfloat16().T,
            "number": torch.tensor(7),
            "empty": torch.zeros(0, 4),
            "parameter": torch.nn.Parameter(draw(2, 2)),
            "frozen.parameter": torch.nn.Parameter(draw(3), requires_grad=False),
        }

    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3), torch.nn.BatchNorm1d(3))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(draw(*parameter.shape))
    for name, tensors, options in (
        ("torch_kinds", kinds(), {}),
        ("torch_views", views(), {}),
        ("torch_module", module.state_dict(), {}),
        ("torch_protocol_4", {**kinds(), **views()}, {"pickle_protocol": 4}),
    ):
        where = folder(name)
        torch.save(tensors, where / "pytorch_model.bin", **options)
        expect(where, tensors)
        if not options:
            where = folder(name.replace("torch", "torch_legacy"))
            count_storages()
            torch.save(tensors, where / "pytorch_model.bin", _use_new_zipfile_serialization=False)
            del torch.UntypedStorage._cdata
            expect(where, tensors)
    tensors = {f"layer.{i}.weight": draw(4, 4) for i in range(5)}
    in_parts(folder("torch_sharded"), "pytorch_model.bin", tensors, torch.save)
    expect(HERE / "torch_sharded", tensors)
    in_parts(folder("safetensors_sharded"), "model.safetensors", tensors, save_file)
    expect(HERE / "safetensors_sharded", tensors)
    folder("safetensors_kinds")
    tensors = kinds()
    save_file(tensors, HERE / "safetensors_kinds" / "model.safetensors", metadata={"format": "pt"})
    expect(HERE / "safetensors_kinds", tensors)


def in_parts(where, name, tensors, save):
    """Two tensors in a part, and the index that transformers writes."""
    names = list(tensors)
    parts = [names[i : i + 2] for i in range(0, len(names), 2)]
    stem, end = name.split(".")
    weight_map = {}
    for i, part in enumerate(parts):
        file = f"{stem}-{i + 1:05d}-of-{len(parts):05d}.{end}"
        save({tensor: tensors[tensor] for tensor in part}, where / file)
        weight_map |= dict.fromkeys(part, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (where / f"{name}.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def with_flax():
    import flax.serialization
    import jax.numpy as jnp
    from flax.traverse_util import flatten_dict
    from transformers.modeling_flax_utils import flax_shard_checkpoint

    def draw(*shape):
        return random.standard_normal(shape, np.float32)

    def expect(where, tree):
        bits = {}
        for name, array in flatten_dict(tree, sep="/").items():
            array = np.asarray(array)
            sixteen = array.dtype == jnp.bfloat16
            bits[f"{name}:bfloat16" if sixteen else name] = array.view(np.uint16) if sixteen else array
        write_expected(where, bits)

    def layer(dtype="float32"):
        return {"kernel": draw(3, 4).astype(dtype), "bias": draw(4).astype(dtype)}

    tree = {
        "bert": {"encoder": {"layer": {"0": layer(), "1": layer("float16")}}, "pooler": {"dense": layer("float64")}},
        "classifier": layer(jnp.bfloat16),
        "whole": {kind: np.arange(3).astype(kind) for kind in ("int64", "int32", "uint8", "bool")},
        "number": np.float32(3),
        "on_device": jnp.arange(4, dtype=jnp.bfloat16),
    }
    where = folder("msgpack")
    (where / "flax_model.msgpack").write_bytes(flax.serialization.msgpack_serialize(tree))
    expect(where, tree)
    flax.serialization.MAX_CHUNK_SIZE = 40
    where = folder("msgpack_in_pieces")
    tree = {"bert": {"embedding": draw(7, 5), "half": draw(5, 6).astype(jnp.bfloat16), "small": draw(2)}}
    (where / "flax_model.msgpack").write_bytes(flax.serialization.msgpack_serialize(tree))
    expect(where, tree)
    flax.serialization.MAX_CHUNK_SIZE = 2**30
    tree = {"bert": {"layer": {str(i): layer() for i in range(4)}}}
    where = folder("msgpack_sharded")
    shards, index = flax_shard_checkpoint(tree, max_shard_size=130)
    for file, shard in shards.items():
        from flax.traverse_util import unflatten_dict

        (where / file).write_bytes(flax.serialization.to_bytes(unflatten_dict(shard, sep="/")))
    (where / "flax_model.msgpack.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    expect(where, tree)


if __name__ == "__main__":
    {"torch": with_torch, "flax": with_flax}[sys.argv[1]]()
