"""A setting: its name, type, default and bounds, and the check of a value."""

import math
import os
from dataclasses import dataclass
from typing import Any, Literal

from flask import Flask
from pydantic import TypeAdapter, ValidationError

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
KINDS: dict[Any, str] = {
    bool: "True or False",
    int: "integer",
    float: "number",
    float | None: "number, or None",
    str: "text",
    str | None: "text, or None",
    list[str]: "list of texts",
    dict[str, Any]: "dictionary",
    dict[str, Any] | None: "dictionary, or None",
    dict[Literal["pair", "address", "login", "hash"], int]: "dictionary of integers by 'pair', 'address', 'login' or 'hash'",
    str | tuple[str, int] | None: "text, or a tuple of a host and a port, or None",
    Literal["fsa", "jwt"]: "'fsa' or 'jwt'",
    Level: "'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'",
}


@dataclass(frozen=True)
class Setting:
    """One setting.

    :param kind: its type, as an annotation; `Literal` names choices.
    :param default: a value, or a function of the application.
    :param help: what it does, with the unit, in one or two sentences.
    :param least: the lowest number allowed; `most`: the highest.
    :param shown: the default as the documentation says it, if it is known at run time only.
    :param secret: its value is never shown.
    :param old: its name in the version before.
    :param env: the environment variable that has it, where the configuration does not.
    """

    name: str
    kind: Any
    default: Any
    help: str
    least: float | None = None
    most: float | None = None
    shown: str = ""
    secret: bool = False
    old: str = ""
    env: str = ""

    def describe(self) -> str:
        """Its type and bounds in words."""
        bounds = "" if self.least is None else f", {self.least} at least"
        return KINDS.get(self.kind, str(self.kind)) + bounds + ("" if self.most is None else f", {self.most} at most")

    def initial(self, app: Flask) -> Any:
        """Its value where the configuration says nothing."""
        value = self.default(app) if callable(self.default) else self.default
        return os.environ.get(self.env, value) if self.env else value

    def fault(self, value: Any) -> str | None:
        """The fault of a value in one sentence, None if it has none."""
        try:
            TypeAdapter(self.kind).validate_python(value, strict=True)
            if not isinstance(value, int | float) or self._within(value):
                return None
        except ValidationError:
            pass
        said = ". Its value is not shown." if self.secret else f", and is {value!r}."
        return f"{self.name} should be {self.describe()}{said}"

    def _within(self, number: float) -> bool:
        least, most = -math.inf if self.least is None else self.least, math.inf if self.most is None else self.most
        return math.isfinite(number) and least <= number <= most
