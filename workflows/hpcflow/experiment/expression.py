"""The language of `sweep.exclude`: comparisons of keys, as in ``resources.nodes > 4 and training.batch_size == 8``.

Operands are dotted keys of the experiment, numbers, text in quotes, true, false, null, and lists of them in brackets.
Operators, from the loosest to the tightest: ``or``; ``and``; ``not``; ``== != < <= > >= in``, ``not in``; ``+ -``;
``* / // %``; the sign. Nothing can be called, indexed or assigned.

The text is parsed by Python's own parser, of whose tree the nodes named here are taken and all others are refused; it
is never evaluated by Python.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

LONGEST = 1000  # characters: deeper nesting than this allows would exhaust the parser's stack
_DEEPEST = 50

Lookup = Callable[[str], Any]

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda left, right: left in right, ast.NotIn: lambda left, right: left not in right,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_WORDS = {"true": True, "false": False, "null": None}


class ExpressionError(ValueError):
    """What is wrong, and at which character of the expression (from 1)."""

    def __init__(self, message: str, character: int) -> None:
        self.message, self.character = message, character
        super().__init__(f"{message} (at character {character})")


@dataclass(frozen=True)
class Expression:
    """An expression that was parsed, and the keys that it names."""

    text: str
    keys: tuple[str, ...]
    _tree: ast.expr = field(repr=False, compare=False)

    def holds(self, lookup: Lookup) -> bool:
        """Its truth where ``lookup`` tells the value of a key. Raises ExpressionError for values that do not go
        together; a KeyError of ``lookup`` becomes one too.
        """
        return bool(_value(self._tree, lookup))


def parse(text: str) -> Expression:
    """Parse ``text``. Raises ExpressionError."""
    if len(text) > LONGEST:
        raise ExpressionError(f"an expression has at most {LONGEST} characters", LONGEST)
    try:
        tree = ast.parse(text.replace("\n", " ").strip(" "), mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(f"this is no comparison: {error.msg}", max(1, error.offset or 1)) from None
    except (ValueError, MemoryError, RecursionError):
        raise ExpressionError("this is no comparison", 1) from None
    return Expression(text, tuple(dict.fromkeys(_checked(tree, 0))), tree)


def _refuse(node: ast.expr, message: str) -> NoReturn:
    raise ExpressionError(message, node.col_offset + 1)


def _checked(node: ast.expr, depth: int) -> Iterator[str]:
    """The keys in a tree. Raises ExpressionError for what is not of the language."""
    if depth > _DEEPEST:
        _refuse(node, "nested too deeply")
    match node:
        case ast.Constant(value=int() | float() | str() | None):  # bool is an int
            pass
        case ast.Name() | ast.Attribute():
            key = _key(node)
            if key not in _WORDS:
                yield key
        case ast.BoolOp(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts):
            for part in parts:
                yield from _checked(part, depth + 1)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=operand):
            yield from _checked(operand, depth + 1)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            yield from _checked(left, depth + 1)
            yield from _checked(right, depth + 1)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(
            type(op) in _COMPARISONS for op in ops
        ):
            for part in (left, *others):
                yield from _checked(part, depth + 1)
        case _:
            _refuse(
                node, "only keys, numbers, text, lists, comparisons, arithmetic, and, or, not are known here"
            )


def _key(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_key(value)}.{name}"
    _refuse(node, "a key is words with dots between them (as in resources.nodes)")


def _value(node: ast.expr, lookup: Lookup) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name() | ast.Attribute():
            key = _key(node)
            if key in _WORDS:
                return _WORDS[key]
            try:
                return lookup(key)
            except KeyError:
                _refuse(node, f"there is no key {key}")
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_value(part, lookup) for part in parts)
        case ast.BoolOp(values=parts):
            return any(_value(part, lookup) for part in parts)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, lookup) for part in parts]
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, lookup)
        case ast.UnaryOp(op=op, operand=operand):
            number = _number(operand, _value(operand, lookup))
            return -number if isinstance(op, ast.USub) else number
        case ast.BinOp(left=left, op=op, right=right):
            numbers = _number(left, _value(left, lookup)), _number(right, _value(right, lookup))
            try:
                return _ARITHMETIC[type(op)](*numbers)
            except ArithmeticError:
                _refuse(node, "a division by zero, or a number out of range")
        case ast.Compare(left=left, ops=ops, comparators=others):
            return _compared(left, ops, others, lookup)
    raise AssertionError(node)  # _checked let it pass


def _number(node: ast.expr, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(node, f"expected a number, not {_shown(value)}")
    return value


def _compared(left: ast.expr, ops: list[ast.cmpop], others: list[ast.expr], lookup: Lookup) -> bool:
    first = _value(left, lookup)
    for op, node in zip(ops, others, strict=True):
        second = _value(node, lookup)
        first, second = (list(side) if isinstance(side, tuple) else side for side in (first, second))
        try:
            true = _COMPARISONS[type(op)](first, second)
        except TypeError:
            _refuse(node, f"{_shown(first)} and {_shown(second)} cannot be compared so")
        if not true:
            return False
        first = second
    return True


def _shown(value: Any) -> str:
    named = {None: "null", True: "true", False: "false"} if value is None or isinstance(value, bool) else {}
    return named.get(value) or repr(value)[:40]
