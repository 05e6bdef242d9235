"""Small matrices that a kernel keeps in registers.

An array from NumPy may be anywhere, as far as the compiler knows: each entry is loaded and stored
again. A matrix of cells stays in registers if each index is known when the kernel is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nqm_study.model.numerics.compiled import Like


def _cells(_: Any, like: Any) -> Any:
    pointer: Any = types.CPointer
    allocate: Any = cgutils.alloca_once

    def allocated(_context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        numbers = ir.ArrayType(ir.DoubleType(), like.count**2)
        return builder.bitcast(allocate(builder, numbers), ir.DoubleType().as_pointer())

    return pointer(types.float64)(like), allocated


cells = cast("Callable[[Like], Any]", intrinsic(_cells))
"""The address of k^2 numbers, for ``carray``, within the kernel that asks for them. Each place that
asks has its own."""
