"""Settings as text: which keys tell configurations apart, and how their values are shown and sorted."""

import json

from meanteacher.config.added_keys import ADDED_KEYS


def contrast(items: list[dict], choices: list[dict]) -> list[dict[str, str]]:
    """For each configuration, the keys whose values are not the same in all of them, with the values as text.

    choices: per configuration, the chosen option of each config group. A key that only some configurations have is
    replaced by the option of its group (`optimizer=adam`) where the options tell the configurations apart equally well.
    """
    differences: list[dict[str, str]] = [{} for _ in items]
    for name in dict.fromkeys(name for item in items for name in item):
        values = [key(item[name]) if name in item else None for item in items]
        if len(set(values)) < 2:
            continue
        prefix = name.partition(".")[0]
        group = "dataset" if prefix == "data" else prefix
        options = [chosen.get(group) for chosen in choices]
        partial = None in values or name.endswith("_target_") or group == "dataset"
        told = len(set(options)) > 1 and len(set(zip(options, values, strict=True))) == len(set(options))
        for item, difference, option in zip(items, differences, options, strict=True):
            difference |= (
                {group: show(option)}
                if partial and told
                else {name: show(item.get(name, ADDED_KEYS.get(name, "none")))}
            )
    return differences


def key(value) -> str:
    """A string that is the same for equal values; 100 and 100.0 are equal."""
    if isinstance(value, dict):
        return json.dumps({name: key(value[name]) for name in sorted(value)})
    return json.dumps(float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value)


def show(value) -> str:
    """A setting as it is written on the command line."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)


def order(value) -> tuple:
    """A sort key: numbers by size, then words."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, value, "") if number else (1, 0, str(value))


def shorten(names: list[str]) -> dict[str, str]:
    """Dotted keys without their group where the rest is unique: `{"method.decay": "decay"}`."""
    bare = {name: name.partition(".")[2] or name for name in names}
    return {name: short if list(bare.values()).count(short) == 1 else name for name, short in bare.items()}
