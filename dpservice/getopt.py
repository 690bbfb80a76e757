"""Command line scanning as getopt_long(3) does it: abbreviations, `--opt value` and `--opt=value`, free order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


class ScanError(ValueError):
    """The command line cannot be read; the text is one line that names the option."""


def scan(
    arguments: Sequence[str], long: Mapping[str, bool], short: Mapping[str, str], *, preferred: frozenset[str]
) -> Iterator[tuple[str, str]]:
    """Yields (long name, value) in order; the value of an option without argument is "". Stray words are skipped.

    `long` tells for each option whether it takes an argument, `short` maps letters to long names without argument.
    An abbreviation that fits exactly one of the `preferred` options means that one, whatever else it fits.
    Raises ScanError at the offending word, after everything before it was yielded.
    """
    words = iter(arguments)
    for word in words:
        if word == "--":
            return
        if word.startswith("--"):
            text, has_value, value = word[2:].partition("=")
            name = _resolve(text, long, preferred)
            if not long[name]:
                if has_value:
                    raise ScanError(f"option '--{name}' doesn't allow an argument")
                yield name, ""
                continue
            if not has_value:
                following = next(words, None)
                if following is None:
                    raise ScanError(f"option '--{name}' requires an argument")
                value = following
            yield name, value
        elif word.startswith("-") and word != "-":
            for letter in word[1:]:
                if letter not in short:
                    raise ScanError(f"invalid option -- '{letter}'")
                yield short[letter], ""


def _resolve(text: str, long: Mapping[str, bool], preferred: frozenset[str]) -> str:
    if text in long:
        return text
    matches = [name for name in long if name.startswith(text)]
    first = [name for name in matches if name in preferred]
    if len(first) == 1:
        return first[0]
    if not matches:
        raise ScanError(f"unrecognized option '--{text}'")
    if len(matches) > 1:
        possibilities = " ".join(f"'--{name}'" for name in matches)
        raise ScanError(f"option '--{text}' is ambiguous; possibilities: {possibilities}")
    return matches[0]
