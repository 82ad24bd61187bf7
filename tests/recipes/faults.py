"""Faults that the training path can have while a run still learns: each with the test that must see it.

A fault is a change of a function's text, so that it may be within inner functions, and it is a fault of the code as it
is: where the old text is no longer there, planting it fails, and the fault must be written anew.
"""

import dataclasses
from typing import Any

import pytest

from tests.methods import test_epochs, test_model_state, test_players, test_rates, test_updates
from tests.parallel import test_by_device
from tests.planting import changed_code
from tests.recipes import test_compiled, test_methods
from tests.training import test_feed
from tests.training import test_phases as test_moments
from tlx.augment.mixing import mix_images
from tlx.data.plan import TrainingPlan
from tlx.models.by_device import LayersByDevice, statistics
from tlx.models.custom import _FrozenNorms
from tlx.models.forward import _after
from tlx.optim.groups import _with_run_step, rate_tables
from tlx.recipes import compiled
from tlx.recipes.frozen import frozen_parts
from tlx.recipes.job import Job
from tlx.recipes.methods import AuxParams
from tlx.training.feed import feed
from tlx.training.gradient import _accumulate_by_loss, _accumulate_sum, _combined, differentiate
from tlx.training.loop import _Loop
from tlx.training.phases import carry_over, steps_of
from tlx.training.step import TrainStep
from tlx.training.tasks import Stream


def test_of(function: Any, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    """A test, and those of its arguments that are no fixtures."""
    return function, arguments


PLAYING = {"playing": (("model",), ("head_b",)), "optimizer": "adamw", "accumulate": 1, "repeat": 1}
TESTS = {
    "several updates": test_of(test_updates.test_two_players_and_three_updates, parts=1),
    "several updates in micro-batches": test_of(test_updates.test_two_players_and_three_updates, parts=3),
    "combined": test_of(test_updates.test_combine_gets_the_gradient_of_each_loss_before_clipping, parts=1),
    "combined in micro-batches": test_of(
        test_updates.test_combine_gets_the_gradient_of_each_loss_before_clipping, parts=4
    ),
    "without examples": test_of(test_updates.test_a_player_without_examples_does_not_move_by_one_bit),
    "out of play": test_of(test_players.test_who_takes_no_part_does_not_move_by_one_bit, **PLAYING),
    "keys": test_of(test_players.test_every_pass_has_a_key_of_its_own, accumulate=1),
    "keys in micro-batches": test_of(test_players.test_every_pass_has_a_key_of_its_own, accumulate=2),
    "schedules": test_of(test_rates.test_rates_go_by_the_runs_step, name="sgd", as_arrays=False),
    "rates": test_of(test_rates.test_rates_go_by_the_runs_step, name="sgd", as_arrays=True),
    "tables": test_of(test_rates.test_a_table_is_the_schedule_at_every_step),
    "one step": test_of(test_compiled.test_runs_of_other_rates_and_lengths_compile_one_step),
    "another method's phase": test_of(test_methods.test_a_step_leaves_the_parameters_of_another_phases_method),
    "moments": test_of(test_moments.test_every_leaf_has_its_own_course),
    "statistics": test_of(test_model_state.test_statistics_move_and_those_of_a_frozen_part_stay),
    "any statistics": test_of(test_model_state.test_any_state_of_a_frozen_part_stays),
    "norms": test_of(test_model_state.test_a_frozen_norm_of_any_module_runs_as_in_evaluation),
    "frozen norms": test_of(
        test_model_state.test_norms_in_which_nothing_learns_are_frozen, learning=(), norms={"made", "bare", "called"}
    ),
    "norms by device": test_of(
        test_by_device.test_layers_see_the_whole_batch, module=test_by_device.Norms(), accumulate=1
    ),
    "partners by device": test_of(test_by_device.test_partners_come_from_the_whole_batch, options={"mixup": 0.8}),
    "streams": test_of(test_feed.test_streams_of_a_step_share_one_length_and_no_order),
    "orders of streams": test_of(test_methods.test_streams_of_the_same_examples_have_orders_of_their_own),
    "streams resumed": test_of(test_feed.test_a_stream_goes_on_where_it_was),
    "phases resumed": test_of(test_methods.test_stopped_and_resumed_to_the_bit, at=26),
    "epochs": test_of(test_epochs.test_against_numpy_and_over_stops),
}
SLOW = {"one step", "another method's phase", "orders of streams", "phases resumed", "epochs"}  # many seconds


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
      function: where it is.
      test: which must fail, one of `TESTS`.
      changes: pairs of an old text, which stands there once, and a new one.
      says: a regex in what the test then says, where it could fail for another reason.
    """

    function: Any
    test: str
    changes: tuple[tuple[str, str], ...]
    says: str = ""

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Gives the function the code of its changed text, wherever it was imported to."""
        monkeypatch.setattr(self.function, "__code__", changed_code(self.function, self.changes))


def fault(function: Any, test: str, *changes: tuple[str, str], says: str = "") -> Fault:
    return Fault(function, test, changes, says)


def key(of: str, by: str) -> tuple[str, str]:
    """A key that is used as it is in place of being folded."""
    return f"jax.random.fold_in({of}, {by})", of


CLIPPED = """\
    norms = {name: jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(g))) for name, g in gradients.items()}
    gradients = {name: jax.tree.map(lambda x, n=norms[name]: x * jnp.minimum(1.0, CLIP / n), g)
                 for name, g in gradients.items()}
""".replace("CLIP", str(test_updates.CLIP))
EPOCH_BEGINS = "done % self.schedule.steps_per_epoch == 0"

RATES = {
    "schedules read the optimizer's own count": fault(_with_run_step, "schedules", ("if step is None:", "if True:")),
    "the rates are one step ahead": fault(TrainStep.rates_now, "rates", ("table[state.step]", "table[state.step + 1]")),
    "a group's rates begin when the group does": fault(
        rate_tables, "tables", ("counts - first", "counts"), says="default@2"
    ),
    "rates are part of the program": fault(compiled.compiled_phases, "one step", ("layout.put(rates)", "None")),
}
KEYS = {
    "repetitions of an update share a key": fault(TrainStep.repeated, "keys", key("context.key", "time")),
    "updates of a step share a key": fault(TrainStep.contexts, "keys", key("at_step", "index")),
    "steps share a key": fault(TrainStep.contexts, "keys", key("key", "state.step")),
    "micro-batches share a key": fault(differentiate, "keys in micro-batches", key("context.key", "part")),
}
PLAYERS = {
    "a player out of play decays": fault(
        TrainStep.one_update,
        "out of play",
        ("merge(trainable, fixed)", "merge(trainable, jax.tree.map(lambda leaf: leaf * 0.999, fixed))"),
    ),
    "a player out of play counts the step": fault(
        TrainStep.one_update,
        "out of play",
        (
            "carried = _where(",
            "for player in set(self.optimizers) - set(update.players):\n"
            "        own = leaves_of(fixed, self.player_of, (player,))\n"
            "        zero = jax.tree.map(jnp.zeros_like, own)\n"
            "        before = own, opt_state[player]\n"
            "        _, opt_state[player] = self.apply_optimizer(player, *before, zero, state.step, rates)\n"
            "    carried = _where(",
        ),
    ),
    "a player without examples decays": fault(
        TrainStep.apply_optimizers, "without examples", ("if player in update.needs:", "if False:")
    ),
    "a player without examples loses momentum": fault(
        TrainStep.apply_optimizers,
        "without examples",
        ("_where(present, after, before)", "_where(present, after, (before[0], after[1]))"),
    ),
    "what only another method learns decays": fault(
        AuxParams.only, "another method's phase", ("if others else", "if False else"), says="aux/discriminator"
    ),
    "moments are lost where a phase begins": fault(
        carry_over, "moments", ("opt_state=opt_state", "opt_state=new.opt_state")
    ),
}
STATISTICS = {
    "the step does not say what is frozen": fault(
        TrainStep.contexts, "statistics", ("constants, frozen=self.frozen)", "constants)")
    ),
    "a frozen part's statistics are what its module leaves": fault(
        _after, "any statistics", ("if path.startswith(frozen):", "if False:")
    ),
    "a norm that is itself the frozen part runs": fault(
        _FrozenNorms.__call__, "norms", ('not f"{path}/".startswith', "not path.startswith")
    ),
    "a norm in which nothing learns is not frozen": fault(
        frozen_parts, "frozen norms", ("frozen.append(module)", "pass")
    ),
}
DEVICES = {
    "batch norm's mean is of a device's rows": fault(
        statistics, "norms by device", ("summed(values.sum(axes, where=counted)) / count", "values.mean(axes)")
    ),
    "batch norm divides by the rows of a device": fault(
        statistics, "norms by device", ("summed(counted.sum(axes, dtype=x.dtype))", "counted.sum(axes, dtype=x.dtype)")
    ),
    "every device has one dropout mask": fault(
        LayersByDevice.__call__,
        "norms by device",
        ("own_rows(run(whole, *rest, **kwargs), len(x))", "run(x * 0 + 1, *rest, **kwargs)"),
    ),
    "partners are of the same device": fault(
        mix_images, "partners by device", ("*gathered((example_id, valid))", "*(example_id, valid)")
    ),
}
GRADIENTS = {
    "losses are means of micro-batches": fault(
        _accumulate_sum,
        "several updates in micro-batches",
        ("(totals, _), carried", "(totals, own), carried"),
        (
            "values = _means(totals, counts)",
            "values = {n: v / len(jax.tree.leaves(microbatches)[0]) for n, v in _means(totals, own).items()}",
        ),
    ),
    "gradients are means of micro-batches": fault(
        _accumulate_by_loss,
        "combined in micro-batches",
        ("jnp.ones_like(values[0][name])}", "1 / values[1][name] / len(jax.tree.leaves(microbatches)[0])}"),
        ("g / c.astype(g.dtype), gradients[name])", "g, gradients[name])"),
    ),
    "gradients are clipped before they are combined": fault(
        _combined, "combined", ("    gradient, method_state =", f"{CLIPPED}    gradient, method_state =")
    ),
    "each player's gradient is clipped by its own norm": fault(
        TrainStep.apply_optimizers,
        "several updates",
        ("self.clipped(gradient), dict", "gradient, dict"),
        (
            "leaves_of(gradient, self.player_of, (player,))",
            "self.clipped(leaves_of(gradient, self.player_of, (player,)))",
        ),
    ),
}
DATA = {
    "streams share one seed": fault(
        TrainingPlan.__init__, "streams", ('() if stream == "train" else', "() if True else")
    ),
    "a plan is not told of its stream": fault(Stream.batches, "orders of streams", (", stream=name", "")),
    "a run's streams go by one name": fault(
        Job.batches, "orders of streams", ("name, self.seed", '"train", self.seed')
    ),
    "a resumed run reads its streams from the beginning": fault(
        feed, "streams resumed", ("slice(start, steps)", "slice(0, steps - start)")
    ),
    "a phase begins its streams anew": fault(steps_of, "epochs", ("source(start)", "source(0)")),
    "a resumed phase reads its streams from the beginning": fault(
        compiled._batches, "phases resumed", ("job.batches(start", "job.batches(0")
    ),
    "epochs are the run's and not the phase's": fault(
        _Loop.begin_step, "epochs", (EPOCH_BEGINS, EPOCH_BEGINS.replace("done", "finished"))
    ),
    "a resumed run makes its pseudo-labels anew": fault(
        _Loop.begin_step, "epochs", (EPOCH_BEGINS, f"({EPOCH_BEGINS} or finished == self.start)")
    ),
}
FAULTS = {**RATES, **KEYS, **PLAYERS, **STATISTICS, **DEVICES, **GRADIENTS, **DATA}
