"""Training several tasks at once: how their gradients are combined and their losses weighted.

What is named here are pure functions of a matrix of gradients, (tasks, parameters), or of losses.
"""

from tlx.methods.multitask.gradients import aligned_mtl as aligned_mtl
from tlx.methods.multitask.gradients import cagrad as cagrad
from tlx.methods.multitask.gradients import imtl_g as imtl_g
from tlx.methods.multitask.gradients import mgda as mgda
from tlx.methods.multitask.gradients import nash_mtl as nash_mtl
from tlx.methods.multitask.gradients import pcgrad as pcgrad
from tlx.methods.multitask.losses import dwa as dwa
from tlx.methods.multitask.losses import famo as famo
from tlx.methods.multitask.losses import famo_logits as famo_logits
from tlx.methods.multitask.losses import gradnorm as gradnorm
from tlx.methods.multitask.losses import rlw as rlw
from tlx.methods.multitask.losses import uncertainty as uncertainty
