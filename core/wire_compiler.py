"""The compiler behind `core.wire`: it writes a layout's functions as source and runs that once.

Neighbouring fields of fixed size become one `struct`: a usual packet decodes in a microsecond. In
the written source fields are local variables; all other names begin with an underscore.
"""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from core.wire_rules import Field, Fixed, Number, Rest, Variable, WireError


class _Layout(NamedTuple):
    title: str
    kind: int | None
    groups: list[list[Field]]  # runs of fixed fields, and single variable ones
    low: int
    high: int
    names: dict[str, Any]  # what the written source may name


def compile_layout(
    title: str, kind: int | None, fields: list[Field], low: int, high: int
) -> dict[str, Callable[..., Any]]:
    """Makes the functions `init`, `decode`, `read` and `encode` of a layout of low-high bytes."""
    names: dict[str, Any] = {"_WireError": WireError, "_refuse": _refuse, "_new": object.__new__}
    layout = _Layout(title, kind, _groups_of(fields), low, high, names)
    source = _write_init(fields) + _write_decode(layout) + _write_read(layout)
    source += _write_encode(layout)
    exec("\n".join(source), names)  # made of the declared layout alone, at import
    return {name: names[name] for name in ("init", "decode", "read", "encode")}


def _groups_of(fields: list[Field]) -> list[list[Field]]:
    groups: list[list[Field]] = []
    for field in fields:
        fixed = not isinstance(field.rule, Variable)
        if fixed and groups and not isinstance(groups[-1][0].rule, Variable):
            groups[-1].append(field)
        else:
            groups.append([field])
    for place, group in enumerate(groups):
        rule = group[0].rule
        after = groups[place + 1 :]
        if isinstance(rule, Variable) and rule.greedy and (
            len(after) > 1 or (after and isinstance(after[0][0].rule, Variable))
        ):  # fmt: skip
            raise TypeError(f"{group[0].name} takes all that is left, but more follows")
    return groups


def _given(fields: list[Field]) -> list[str]:
    return [field.name for field in fields if field.value is None and not field.counts]


def _write_init(fields: list[Field]) -> list[str]:
    given = _given(fields)
    lines = [f"def init({', '.join(['_self', *given])}):"]
    return lines + ([f"    _self.{name} = {name}" for name in given] or ["    pass"])


def _write_decode(layout: _Layout) -> list[str]:
    title, kind, groups, low, high, _ = layout
    exact = low == high
    lines = [
        "def decode(_cls, _data):",
        "    _end = len(_data)",
        f"    if {f'_end != {low}' if exact else f'not {low} <= _end <= {high}'}:",
        f"        raise _WireError({title!r}, "
        f"f'has {{_end}} bytes, not {low if exact else f'{low}-{high}'}')",
    ]
    if kind is not None:
        lines += [
            f"    if _data[0] != {kind}:",
            f"        raise _WireError({title!r}, f'first byte {{_data[0]}} is not {kind}')",
        ]
    lines += _write_fields(layout, 0 if kind is None else 1)
    if any(isinstance(group[0].rule, Variable) for group in groups):
        lines += [
            "    if _offset != _end:",
            f"        raise _WireError({title!r}, f'{{_end - _offset}} bytes too many, not 0')",
        ]
    return [*lines, *_write_new(layout), "    return _self"]


def _write_read(layout: _Layout) -> list[str]:
    title, kind, _, low, _, _ = layout
    lines = [
        "def read(_cls, _data, _offset, _end):",
        f"    if _end - _offset < {low}:",
        f"        raise _WireError({title!r}, f'{{_end - _offset}} bytes are left of {low}')",
    ]
    if kind is not None:
        lines += [
            f"    if _data[_offset] != {kind}:",
            f"        raise _WireError({title!r}, f'first byte {{_data[_offset]}} is not {kind}')",
            "    _offset += 1",
        ]
    return [*lines, *_write_fields(layout, None), *_write_new(layout), "    return _self, _offset"]


def _write_new(layout: _Layout) -> list[str]:
    given = [name for group in layout.groups for name in _given(group)]
    return ["    _self = _new(_cls)", *(f"    _self.{name} = {name}" for name in given)]


def _write_fields(layout: _Layout, start: int | None) -> list[str]:
    """Writes the reading of all fields, from the fixed place `start` or from a moving `offset`."""
    lines: list[str] = []
    counters: dict[str, str] = {}
    for place, group in enumerate(layout.groups):
        rule = group[0].rule
        if isinstance(rule, Variable):
            if start is not None:
                lines.append(f"    _offset = {start}")
                start = None
            tail = layout.groups[place + 1] if rule.greedy and layout.groups[place + 1 :] else []
            suffix = sum(field.rule.low for field in tail)
            stop = f"_end - {suffix}" if suffix else "_end"
            lines += _write_variable(layout, group[0].name, rule, stop, counters)
            continue
        size = sum(field.rule.low for field in group)
        unpack = f"_unpack_{place}"
        form = ">" + "".join(field.format for field in group)
        layout.names[unpack] = struct.Struct(form).unpack_from
        targets = ", ".join(field.name for field in group) + ","
        if start is not None:
            lines.append(f"    {targets} = {unpack}(_data, {start})")
            start += size
        else:
            lines += [
                f"    if _end - _offset < {size}:",
                f"        raise _WireError({layout.title!r}, "
                f"f'{{_end - _offset}} bytes are left of {size}')",
                f"    {targets} = {unpack}(_data, _offset)",
                f"    _offset += {size}",
            ]
        for field in group:
            lines += _write_check(layout.title, field)
            if field.counts:
                counters[field.counts] = field.name
    return lines


def _write_variable(
    layout: _Layout, name: str, rule: Variable, stop: str, counters: dict[str, str]
) -> list[str]:
    if type(rule) is Rest and not rule.sizes:  # the usual tail, without a call
        return [
            f"    _size = {stop} - _offset",
            f"    if not {rule.low} <= _size <= {rule.high}:",
            f"        raise _WireError({layout.title!r}, "
            f"f'{name} has {{_size}} bytes, not {rule.low}-{rule.high}')",
            f"    {name} = _data[_offset:{stop}]",
            f"    _offset = {stop}",
        ]
    layout.names[f"_read_{name}"] = rule.read
    count = counters.get(name, "None")
    return [
        "    try:",
        f"        {name}, _offset = _read_{name}(_data, _offset, {stop}, {count})",
        "    except _WireError as _error:",
        f"        raise _WireError({layout.title!r}, f'{name}: {{_error.rule}}') from None",
    ]


def _outside(name: str, rule: Number) -> str:
    """Returns the test that `name` has a forbidden value."""
    test = f"not {rule.least} <= {name} <= {rule.greatest}"
    return f"({test} and {name} not in {rule.others!r})" if rule.others else test


def _write_check(title: str, field: Field) -> list[str]:
    rule, name = field.rule, field.name
    if field.value is not None:
        test, wanted = f"{name} != {field.value}", str(field.value)
    elif isinstance(rule, Number) and rule.checked:
        test, wanted = _outside(name, rule), rule.text
    else:
        return []
    return [
        f"    if {test}:",
        f"        raise _WireError({title!r}, f'{name} {{{name}}} is not {wanted}')",
    ]


def _write_encode(layout: _Layout) -> list[str]:
    title, kind, groups, _, high, names = layout
    everything = [field for group in groups for field in group]
    lines = ["def encode(_self):"]
    lines += [f"    {one.name} = _self.{one.name}" for one in everything if one.value is None]
    parts: list[str] = []
    for place, group in enumerate(groups):
        rule = group[0].rule
        if isinstance(rule, Variable):
            names[f"_write_{group[0].name}"] = rule.write
            parts.append(f"_write_{group[0].name}({group[0].name})")
            continue
        headed = place == 0 and kind is not None
        form = ">" + ("B" if headed else "") + "".join(field.format for field in group)
        names[f"_pack_{place}"] = struct.Struct(form).pack
        values = ", ".join(one.name if one.value is None else str(one.value) for one in group)
        parts.append(f"_pack_{place}({f'{kind}, ' if headed else ''}{values})")
        tests = [test for field in group for test in _encode_tests(field)]
        if tests:
            names[f"_fields_{place}"] = tuple(group)
            lines += [
                f"    if {' or '.join(tests)}:",
                f"        _refuse({title!r}, _fields_{place}, ({values},))",
            ]
    if kind is not None and (not groups or isinstance(groups[0][0].rule, Variable)):
        parts.insert(0, repr(bytes([kind])))
    lines.append(f"    _data = {' + '.join(parts) or repr(b'')}")
    if (kind is not None) + sum(field.rule.high for field in everything) > high:
        lines += [
            f"    if len(_data) > {high}:",
            f"        raise ValueError(f'{title} has {{len(_data)}} bytes, over {high}')",
        ]
    return [*lines, "    return _data"]


def _encode_tests(field: Field) -> list[str]:
    rule = field.rule
    if isinstance(rule, Fixed):
        return [f"len({field.name}) != {rule.low}"]
    if isinstance(rule, Number) and rule.checked and field.value is None:
        return [_outside(field.name, rule)]
    return []


def _refuse(title: str, fields: tuple[Field, ...], values: tuple[Any, ...]) -> None:
    """Says which of these fixed fields cannot be encoded."""
    for field, value in zip(fields, values, strict=True):
        rule = field.rule
        if isinstance(rule, Fixed) and len(value) != rule.low:
            raise ValueError(f"{title}.{field.name} has {len(value)} bytes, not {rule.low}")
        if isinstance(rule, Number) and not rule.allows(value):
            raise ValueError(f"{title}.{field.name} is {value}, not {rule.text}")
    raise ValueError(f"{title} cannot be encoded")
