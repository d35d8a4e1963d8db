"""The operators an exported program may call: functions of their arguments alone.

No files, no random numbers, no state, and no internals that trust their arguments. What is not
named here is refused, because a file must not choose freely among torch's thousands.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch

from lsshell.engine.errors import EngineError

ADVICE = (
    "name the network (mlp, cnn, MODULE:FACTORY) and give its weights as a state dict "
    "or safetensors"
)
_PREFIX = "torch.ops.aten."
_ATEN_NAMES = """
_adaptive_avg_pool2d _adaptive_avg_pool3d _log_softmax _native_batch_norm_legit_no_training
_softmax _to_copy _unsafe_view abs acos acosh adaptive_avg_pool1d adaptive_avg_pool2d
adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d add addbmm addcdiv addcmul addmm
addmv alias all alpha_dropout amax amin any arange argmax argmin asin asinh atan atan2 atanh
avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bilinear bitwise_and bitwise_not
bitwise_or bitwise_xor bmm broadcast_to cat ceil celu channel_shuffle chunk clamp clamp_max
clamp_min clone concat constant_pad_nd contiguous conv1d conv2d conv3d conv_transpose1d
conv_transpose2d conv_transpose3d convolution cos cosh cumprod cumsum detach diagonal div
divide dropout einsum elu embedding eq erf erfc exp exp2 expand expand_as expm1 eye
feature_alpha_dropout feature_dropout flatten flip floor floor_divide fmod frobenius_norm full
full_like gather ge gelu glu group_norm gt hardshrink hardsigmoid hardswish hardtanh im2col
index index_select instance_norm isfinite isinf isnan layer_norm le leaky_relu lerp
lift_fresh_copy linalg_vector_norm linear log log10 log1p log2 log_sigmoid log_softmax
logical_and logical_not logical_or logical_xor logsumexp lt masked_fill matmul max max_pool1d
max_pool2d max_pool2d_with_indices max_pool3d maximum mean meshgrid min minimum mish mm
movedim mul multiply narrow native_group_norm native_layer_norm ne neg new_empty new_full
new_ones new_zeros norm one_hot ones ones_like outer pad permute pixel_shuffle pixel_unshuffle
pow prelu prod reciprocal reflection_pad1d reflection_pad2d relu relu6 remainder repeat
repeat_interleave replication_pad1d replication_pad2d reshape reshape_as rms_norm roll round
rsqrt rsub scalar_tensor scaled_dot_product_attention select selu sigmoid sign silu sin sinh
slice softmax softplus softshrink sort split split_with_sizes sqrt square squeeze stack std sub
subtract sum swapaxes sym_numel sym_size t tan tanh tanhshrink threshold tile to topk transpose
tril triu true_divide trunc type_as unbind unflatten unfold unsqueeze upsample_bicubic2d
upsample_bilinear2d upsample_nearest2d var var_mean view view_as where zeros zeros_like
"""
_ATEN = frozenset(_ATEN_NAMES.split())


def _positionally(function: Callable[..., Any]) -> Callable[..., Any]:
    """Python's own operators take no keywords; their arguments come in order."""
    return lambda **arguments: function(*arguments.values())


# Arithmetic on sizes.
_OPERATOR_NAMES = "add sub mul floordiv truediv mod neg eq ne lt le gt ge"
_SCALAR: dict[str, Callable[..., Any]] = {
    **{f"_operator.{n}": _positionally(getattr(operator, n)) for n in _OPERATOR_NAMES.split()},
    "torch.sym_float": _positionally(torch.sym_float),
    "torch.sym_max": _positionally(torch.sym_max),
    "torch.sym_min": _positionally(torch.sym_min),
    "torch.sym_not": _positionally(torch.sym_not),
}
# Checks of sizes and types at run time, which compute nothing.
_CHECKS = (f"{_PREFIX}_assert_", f"{_PREFIX}sym_constrain_range")


def operator_named(target: str) -> Callable[..., Any]:
    """The function that a node's target, as `torch.ops.aten.linear.default`, stands for.

    It takes its arguments by the names they have in the file.

    Raises EngineError where it is not one of those known.
    """
    if target in _SCALAR:
        return _SCALAR[target]
    name, _, overload = target.removeprefix(_PREFIX).partition(".")
    base = name.removesuffix("_") if in_place(target) else name
    if target.startswith(_PREFIX) and base in _ATEN and "out" not in overload:
        family = getattr(torch.ops.aten, name)
        if overload in family.overloads():
            return getattr(family, overload)
    raise EngineError(f"uses the operator {target}, which is not read from files; {ADVICE}")


def in_place(target: str) -> bool:
    """Whether the operator writes to its first argument (torch ends such names in `_`)."""
    return target.startswith(_PREFIX) and target.split(".")[3].endswith("_")


def is_check(target: str) -> bool:
    """Whether the operator only checks sizes or types at run time, and so may be left out."""
    return target.startswith(_CHECKS)
