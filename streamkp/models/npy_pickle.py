"""Arrays out of `.npy` files that hold a pickle, without unpickling.

`numpy.save` pickles an array of objects, and a list of two arrays of one kind can become one. This reads the
opcodes that such a file can consist of and builds numbers, strings, tuples, lists, dicts and numeric arrays itself.
Nothing in the file is ever looked up, called or imported; anything else in it is an error.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import ModelError

MAX_BYTES = 1 << 20
MAX_VALUES = 1 << 20  # a pickle can refer to one list many times and be far larger than its file

_RECONSTRUCT = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
_FROM_BUFFER = {"numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer"}
_NDARRAY, _DTYPE, _ENCODE = "numpy ndarray", "numpy dtype", "_codecs encode"
_MARK = object()
_PUSH = {
    "BININT", "BININT1", "BININT2", "LONG1", "INT", "LONG", "BINUNICODE", "SHORT_BINUNICODE", "UNICODE",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "BINSTRING", "SHORT_BINSTRING", "BINFLOAT",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Name(str):
    """A module and an attribute that the pickle refers to."""


class _Array:
    """An array that is being put together: its numbers, or the list of its objects and their shape."""

    shape: tuple[int, ...]
    content: NDArray[Any] | list[Any]


class _Refused(Exception):
    """The pickle holds something else than numbers in arrays."""


def read(path: str | Path) -> NDArray[np.float64]:
    """The numbers of a `.npy` file, as one array; a list or object array of equal arrays is stacked.

    Raises `ModelError`, naming the file, when it is anything else.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} is larger than {MAX_BYTES} bytes; this is no table of statistics")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    try:
        return np.array(_parse(data, _numbers), dtype=np.float64)
    except Exception as error:  # a damaged file can fail anywhere inside the parsers
        raise ModelError(f"{path} is not an array of numbers and is refused ({error})") from None


def loads(data: bytes) -> Any:
    """What the bytes of a `.npy` file hold: a numeric array, or for an array of objects its content.

    The content is made of dicts, lists, tuples, strings, numbers and numeric arrays; an array of objects becomes the
    list of them, or the object itself where it has no axes. Raises `ModelError` for anything else.
    """
    try:
        return _plainly(_parse(data, _same), {})
    except Exception as error:  # a damaged file can fail anywhere inside the parsers
        raise ModelError(f"not plain data, and refused ({error})") from None


def _same(value: Any) -> Any:
    return value


def _plainly(value: Any, known: dict[int, Any]) -> Any:
    """The value without `_Array`, and nothing in it but plain data; what is repeated stays one object."""
    if isinstance(value, _Array):
        if isinstance(value.content, np.ndarray):
            return value.content
        value = value.content if value.shape else value.content[0]
    if isinstance(value, (str, int, float, np.ndarray, type(None))) and not isinstance(value, _Name):
        return value
    if id(value) not in known:
        if isinstance(value, dict):
            known[id(value)] = {key: _plainly(item, known) for key, item in value.items()}
        elif isinstance(value, (list, tuple)):
            known[id(value)] = type(value)(_plainly(item, known) for item in value)
        else:
            raise _Refused(f"it holds a {type(value).__name__}")
    return known[id(value)]


def _parse(data: bytes, finish: Callable[[Any], Any]) -> Any:
    """`finish` is applied to what a pickle holds; a plain array needs nothing."""
    if not data.startswith(np.lib.format.MAGIC_PREFIX):
        return finish(_run(data))
    file = io.BytesIO(data)
    major, _ = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    _, _, dtype = header(file)
    if not dtype.hasobject:
        return np.load(io.BytesIO(data), allow_pickle=False)
    return finish(_run(data[file.tell() :]))


def _numbers(value: Any) -> NDArray[Any]:
    """Arrays and lists of any depth as one array."""
    if _count(value, {}) > MAX_VALUES:
        raise _Refused(f"it holds more than {MAX_VALUES} numbers")
    return _stacked(value)


def _count(value: Any, known: dict[int, int]) -> int:
    """How many numbers a value stands for, without going twice through one that is repeated."""
    if isinstance(value, _Array):
        value = value.content
    if isinstance(value, np.ndarray):
        return value.size
    if not isinstance(value, (list, tuple)):
        return 1
    if id(value) not in known:
        known[id(value)] = sum(_count(item, known) for item in value)
    return known[id(value)]


def _stacked(value: Any) -> NDArray[Any]:
    if isinstance(value, _Array):
        if isinstance(value.content, np.ndarray):
            return value.content
        items = _stacked(value.content)
        return items.reshape(*value.shape, *items.shape[1:])
    if isinstance(value, (list, tuple)):
        return np.stack([_stacked(item) for item in value])
    if isinstance(value, (int, float, np.ndarray)):
        return np.asarray(value, np.float64)
    raise _Refused(f"it holds a {type(value).__name__}")


def _run(data: bytes) -> Any:
    """The value that a pickle of arrays stands for."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = max(i for i, value in enumerate(stack) if value is _MARK)
        items = stack[start + 1 :]
        del stack[start:]
        return items

    operations: Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]] = pickletools.genops(data)
    for opcode, argument, _ in operations:
        name = opcode.name
        if name in _PUSH:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif name == "APPENDS":
            items = since_mark()
            stack[-1].extend(items)
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "SETITEM":
            item, key = stack.pop(), stack.pop()
            _fill(stack[-1], [key, item])
        elif name == "SETITEMS":
            items = since_mark()
            _fill(stack[-1], items)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(_Name(argument))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_Name(f"{module} {attribute}"))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_made(function, arguments))
        elif name == "BUILD":
            state = stack.pop()
            _set_state(stack[-1], state)
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise _Refused(f"it holds the pickle opcode {name}")
    raise _Refused("it ends too early")


def _fill(target: Any, items: list[Any]) -> None:
    """Put keys and values, one after the other, into a dict."""
    keys = items[::2]
    if type(target) is not dict or not all(type(key) in (str, int) for key in keys):
        raise _Refused("it holds a dict with keys that are neither strings nor integers")
    target.update(zip(keys, items[1::2], strict=True))


def _made(function: Any, arguments: tuple[Any, ...]) -> Any:
    """The result of one of the calls that a pickled array consists of."""
    if isinstance(function, _Name):
        if function in _RECONSTRUCT and arguments[0] == _NDARRAY:
            return _Array()
        if function == _DTYPE and isinstance(arguments[0], str):
            return _numeric(np.dtype(arguments[0]))
        if function == _ENCODE and arguments[1] in ("latin1", "latin-1"):
            return arguments[0].encode("latin-1")
        if function in _FROM_BUFFER:
            raw, dtype, shape, order = arguments
            return _plain(raw, dtype, shape, order)
    raise _Refused(f"it calls {function}")


def _set_state(target: Any, state: tuple[Any, ...]) -> None:
    """What `__setstate__` would do for a dtype (its byte order) and for an array (its contents)."""
    if isinstance(target, np.dtype):
        if state[1] == ">":
            raise _Refused("its numbers are big-endian")
        return
    if not isinstance(target, _Array):
        raise _Refused(f"it changes a {type(target).__name__}")
    _, shape, dtype, fortran, content = state
    if dtype.kind == "O":
        target.shape, target.content = shape, list(content)
    else:
        raw = content.encode("latin-1") if isinstance(content, str) else content
        target.content = _plain(raw, dtype, shape, "F" if fortran else "C")


def _numeric(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind not in "fiuO":
        raise _Refused(f"it holds values of type {dtype}")
    return dtype


def _plain(raw: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]) -> NDArray[Any]:
    return np.frombuffer(raw, dtype).reshape(shape, order=order)
