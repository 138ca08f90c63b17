"""What a network's call costs, found by making the call on the meta device: shapes without numbers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True)
class Cost:
    """What a call costs.

    Attributes:
        flops: floating-point operations of its products and convolutions, a multiplication and an addition being two.
        peak_bytes: most bytes at once of what the call made: activations, not weights, gradients or inputs.
    """

    flops: int
    peak_bytes: int


def measure(call: Callable[[], Any], autocast: bool = False) -> Cost:
    """What a call costs on a GPU.

    Args:
        call: works on tensors of the meta device.
        autocast: as under ``torch.autocast("cuda", torch.bfloat16)``.
    """
    counter = _Counter()
    casts: Any = _Autocast() if autocast else nullcontext()
    with counter, _FusedAttention(), casts:
        result = call()
    del result
    return Cost(counter.flops, counter.peak)


def training_cost(modules: nn.Module, loss: Callable[[], Tensor], autocast: bool = False) -> Cost:
    """What a loss and its gradients cost; the gradients themselves are not in the peak.

    Args:
        modules: hold the weights.
        loss: computes it.
        autocast: see ``measure``.
    """
    with _gradients_dropped(modules):
        return measure(lambda: _backward(loss()), autocast)


def _backward(loss: Tensor) -> None:
    """`loss.backward()`, in which function modes would be off: layers that are computed again need them."""
    engine = torch.autograd.Variable._execution_engine
    engine.run_backward(
        (loss,), (torch.ones_like(loss),), False, False, (), allow_unreachable=True, accumulate_grad=True
    )


@contextmanager
def _gradients_dropped(modules: nn.Module) -> Iterator[None]:
    """Within the block a weight's gradient is gone as soon as it is there."""

    def drop(weight: Tensor) -> None:
        weight.grad = None

    weights = [weight for weight in modules.parameters() if weight.requires_grad]
    hooks = [weight.register_post_accumulate_grad_hook(drop) for weight in weights]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Counter(TorchDispatchMode):
    """Counts the products' operations, and the bytes that all operations allocate for as long as something holds them.

    torch's own `FlopCounterMode` counts the same operations, but holds on to what modules return.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self._see(leaf, made=False)
        result = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=result)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf, made=True)
        return result

    def _see(self, tensor: Tensor, made: bool) -> None:
        if tensor.device.type != "meta":
            return
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes() if made else 0
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _FusedAttention(TorchFunctionMode):
    """On the meta device torch has no fused attention; a GPU has, and does not keep the attention weights."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention or args[0].device.type != "meta":
            return func(*args, **kwargs)
        query, key, value = args
        bias = kwargs.get("attn_mask")
        if bias is not None:
            bias = bias.expand(*query.shape[:2], query.shape[2], key.shape[2])
        attend = torch.ops.aten._scaled_dot_product_efficient_attention
        return attend(query, key, value, bias, torch.is_grad_enabled())[0]


LOWERED = (F.linear, F.scaled_dot_product_attention)
RAISED = (F.layer_norm, torch.exp)
WIDENED = (torch.addcmul,)
"""Of the functions that the transformer calls, those that CUDA's autocast brings to bf16, to float32, or to the widest
type among their arguments."""


class _Autocast(TorchFunctionMode):
    """What CUDA's autocast makes of the functions that the transformer calls; torch has none for the meta device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in LOWERED:
            args = tuple(_lowered(x) for x in args)
            kwargs = {name: _lowered(x) for name, x in kwargs.items()}
        elif func in RAISED or (func in WIDENED and any(_is_float(x) for x in args)):
            args = tuple(_raised(x) for x in args)
        return func(*args, **kwargs)


def _lowered(value: Any) -> Any:
    return value.to(torch.bfloat16) if _is_float(value) else value


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32


def _raised(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value
