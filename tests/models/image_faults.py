"""Faults that ViT and DeiT can have and still train: each with the reference checkpoint that should show it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from tests.models.faults import Fault, changed, swapped
from tlx.models import interpolate, patches, pre_norm
from tlx.models.deit import DeiT
from tlx.models.heads import OutputHead
from tlx.models.layers import dense, layer_norm
from tlx.models.transformer import Intermediate, SelfAttention
from tlx.models.vit import ViT

RIGHT_WEIGHTS, RIGHT_INTERPOLATE = interpolate.cubic_weights, interpolate.interpolate


class ByColumn(patches.PatchEmbeddings):
    """Patches counted down before across."""

    def __call__(self, pixels: jax.Array) -> jax.Array:
        x = super().__call__(pixels)
        down, across = self.config.grid_of(*pixels.shape[1:3])
        return x.reshape(-1, down, across, x.shape[-1]).swapaxes(1, 2).reshape(x.shape)


def block_of(
    before: bool = True, residual: str = "input", last: bool = True, drops: bool = True
) -> type[pre_norm.Block]:
    """A block that lacks its first norm, adds the normed input, has no second residual, or drops nothing."""

    class Block(pre_norm.Block):
        @nn.compact
        def __call__(self, x: jax.Array, mask: None, deterministic: bool) -> tuple[jax.Array, jax.Array]:
            c = self.config
            normed = layer_norm("layernorm_before", self.dtype, c.layer_norm_eps)(x)
            deterministic_output = deterministic or not drops
            mixed, weights = Attention(c, self.dtype, deterministic_output, name="attention")(
                normed if before else x, deterministic
            )
            x = (x if residual == "input" else normed) + mixed
            wide = Intermediate(c, self.dtype, name="intermediate")(
                layer_norm("layernorm_after", self.dtype, c.layer_norm_eps)(x)
            )
            wide = pre_norm.OutputProjection(c, self.dtype, name="output")(wide, deterministic_output)
            return (x + wide if last else wide), weights

    class Attention(nn.Module):
        config: Any
        dtype: Any
        deterministic_output: bool

        @nn.compact
        def __call__(self, x: jax.Array, deterministic: bool) -> tuple[jax.Array, jax.Array]:
            mixed, weights = SelfAttention(self.config, self.dtype, name="attention")(x, None, deterministic)
            projection = pre_norm.OutputProjection(self.config, self.dtype, name="output")
            return projection(mixed, self.deterministic_output), weights

    return Block


class NoDropout(patches.ImageEmbeddings):
    def __call__(self, pixels: jax.Array, interpolated: bool, deterministic: bool) -> jax.Array:
        return super().__call__(pixels, interpolated, True)


def sharp(a: float) -> Any:
    """The cubic kernel of another sharpness."""

    def weights(old: int, new: int) -> np.ndarray:
        right = interpolate.SHARPNESS
        interpolate.SHARPNESS = a
        try:
            return RIGHT_WEIGHTS(old, new)
        finally:
            interpolate.SHARPNESS = right

    return weights


def linear(old: int, new: int) -> np.ndarray:
    """Bilinear."""
    centre = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(old)))


def corners(old: int, new: int) -> np.ndarray:
    """The first and last samples on the first and last."""
    centre = np.arange(new) * (old - 1) / (new - 1)
    return np.maximum(0, 1 - np.abs(centre[:, None] - np.arange(old)))


def resized(table: jax.Array, old: tuple[int, int], new: tuple[int, int]) -> jax.Array:
    """As jax.image has it: another kernel, and antialiased."""
    tokens = table.shape[1] - old[0] * old[1]
    grid = jax.image.resize(table[:, tokens:].reshape(1, *old, -1), (1, *new, table.shape[-1]), "cubic")
    return jnp.concatenate([table[:, :tokens], grid.reshape(1, new[0] * new[1], -1)], axis=1)


def turned(table: jax.Array, old: tuple[int, int], new: tuple[int, int]) -> jax.Array:
    """Height taken for width."""
    tokens = table.shape[1] - old[0] * old[1]
    found = RIGHT_INTERPOLATE(table, old, new[::-1])
    grid = found[:, tokens:].reshape(1, *new[::-1], -1).swapaxes(1, 2).reshape(1, new[0] * new[1], -1)
    return jnp.concatenate([found[:, :tokens], grid], axis=1)


def answered(own: float, other: float) -> dict[str, Any]:
    """DeiT's two answers weighed otherwise."""

    class Answered(OutputHead):
        @nn.compact
        def __call__(self, features: Any, deterministic: bool) -> jax.Array:
            x = features.last_hidden_state
            layers = [dense(self.head.outputs, name, self.dtype, 0.02) for name in ("output", "teacher")]
            return own * layers[0](x[:, 0]) + other * layers[1](x[:, 1])

    return {"OutputHead": Answered}


IMAGE_FAULTS = {
    "vit: patches turned": Fault("vit/plain", params=changed("projection/kernel", lambda k: k.swapaxes(0, 1))),
    "vit: colours reversed": Fault("vit/plain", params=changed("projection/kernel", lambda k: k[:, :, ::-1])),
    "vit: patches by column": Fault("vit/plain", code={"PatchEmbeddings": ByColumn}),
    "vit: positions moved by one": Fault(
        "vit/plain", params=changed("position_embeddings", lambda table: jnp.roll(table, 1, axis=1))
    ),
    "vit: the class token has no position": Fault(
        "vit/plain", params=changed("position_embeddings", lambda table: table.at[:, 0].set(0))
    ),
    "vit: norms swapped": Fault("vit/plain", params=swapped("/layernorm_before/", "/layernorm_after/")),
    "vit: query and key swapped": Fault("vit/plain", params=swapped("/query/", "/key/")),
    "vit: no norm before attention": Fault("vit/plain", code={"Block": block_of(before=False)}),
    "vit: the normed input is added": Fault("vit/plain", code={"Block": block_of(residual="normed")}),
    "vit: no second residual": Fault("vit/plain", code={"Block": block_of(last=False)}),
    "vit: blocks drop nothing": Fault("vit/dropout", code={"Block": block_of(drops=False)}),
    "vit: embeddings drop nothing": Fault("vit/dropout", code={"ImageEmbeddings": NoDropout}),
    "vit: attention drops nothing": Fault("vit/dropout", config={"attention_probs_dropout_prob": 0.0}),
    "vit: no last norm": Fault("vit/base", methods={(ViT, "end"): lambda self, x: x + 0 * self.layernorm(x)}),
    "vit: the pooler reads a patch": Fault("vit/base", methods={(ViT, "pool"): lambda self, x: self.pooler(x[:, 1:])}),
    "vit: tanh in every pooler": Fault("vit/pooler_24", config={"pooler_act": "tanh"}),
    "vit: the mean is classified": Fault("vit/plain", code={"pool": lambda _, f: f.last_hidden_state.mean(axis=1)}),
    "vit: another eps": Fault("vit/eps_1e-3", config={"layer_norm_eps": 1e-6}),
    "vit: erf for tanh": Fault("vit/gelu_new", config={"hidden_act": "gelu"}),
    "vit: biases of the key alone": Fault("vit/plain", params=changed("query/bias", jnp.zeros_like)),
    "vit: Keys' own kernel": Fault("vit/larger_image", code={"cubic_weights": sharp(-0.5)}),
    "vit: bilinear": Fault("vit/larger_image", code={"cubic_weights": linear}),
    "vit: corners aligned": Fault("vit/larger_image", code={"cubic_weights": corners}),
    "vit: antialiased": Fault("vit/smaller_image", code={"interpolate": resized}),
    "vit: height for width": Fault("vit/oblong_image", code={"interpolate": turned}),
    "vit: as many patches are the same patches": Fault("vit/same_patches", code={"interpolate": lambda t, *_: t}),
    "deit: tokens swapped": Fault("deit/plain", methods={(DeiT, "tokens"): ("distillation_token", "cls_token")}),
    "deit: heads swapped": Fault(
        "deit/teacher", params=lambda leaves: swapped("default/output", "default/teacher")(leaves)
    ),
    "deit: the class token alone": Fault("deit/teacher", code=answered(1.0, 0.0)),
    "deit: a sum, no mean": Fault("deit/teacher", code=answered(1.0, 1.0)),
    "deit: the first token's position is a patch's": Fault(
        "deit/larger_image",
        code={"interpolate": lambda table, old, new: jnp.roll(RIGHT_INTERPOLATE(table, old, new), 1, axis=1)},
    ),
}
