"""Named tuples of arrays passed by reference within compiled code.

In: a named tuple, in compiled code. Out: one word that has the same attributes, read-only.

numba passes a named tuple as its fields, and an array as seven words: with `State` and `Topology` that is some 270 words for each call,
which it writes out and LLVM optimises. By reference the kernel compiles in much less time, and what isn't inlined is called faster.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, models, register_model

__all__ = ("by_reference",)

T = TypeVar("T")


class _Reference(types.Type):
    """The type of a reference to a named tuple; it is valid until the function that made it returns."""

    def __init__(self, fields: Any) -> None:
        """Refer to tuples of the type `fields`; numba compares types by their names, and that one's is pages long."""
        digest = hashlib.blake2b(fields.name.encode(), digest_size=8).hexdigest()
        super().__init__(name=f"Reference({fields.instance_class.__name__}, {digest})")
        self.fields = fields


register_model(_Reference)(models.OpaqueModel)


@infer_getattr
class _Attributes(AttributeTemplate):
    key = _Reference

    def generic_resolve(self, reference: Any, attribute: str) -> Any:  # type: ignore[override]
        names = reference.fields.fields
        return reference.fields.types[names.index(attribute)] if attribute in names else None


@lower_getattr_generic(_Reference)  # type: ignore[untyped-decorator]
def _load(context: Any, builder: Any, reference: Any, address: Any, attribute: str) -> Any:
    number = reference.fields.fields.index(attribute)
    pointer = builder.bitcast(address, context.get_value_type(reference.fields).as_pointer())
    value = builder.load(cgutils.gep_inbounds(builder, pointer, 0, number))
    return impl_ret_borrowed(context, builder, reference.fields.types[number], value)


@intrinsic
def _refer(_context: Any, value: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        slot = cgutils.alloca_once_value(builder, arguments[0])
        return builder.bitcast(slot, cgutils.voidptr_t)

    return _Reference(value)(value), generate


if TYPE_CHECKING:

    def by_reference(value: T) -> T:
        """Return a reference to a named tuple, in compiled code only."""
        ...
else:
    by_reference = _refer
