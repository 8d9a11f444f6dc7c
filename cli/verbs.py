"""What Typer does not do for a verb: its help names what an option takes by a noun in capitals, such as FILE, RATE or
CUSTOMER, and a wrong argument is explained like a wrong setting."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

_OF_NUMBERS: dict[object, str] = {int: "N", float: "NUMBER"}


class _WithNouns:
    """Each parameter has a noun, its own if it was given one; a flag takes nothing, so it has none."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if isinstance(param, TyperArgument):
                param.metavar = param.metavar or (param.name or "").upper()
                param.display_type_rich = lambda ctx: None  # type: ignore[method-assign]  # noqa: ARG005
            elif isinstance(param, TyperOption) and param.metavar is None:
                param.metavar = _noun(param)
        return params


class Verb(_WithNouns, TyperCommand):
    """A command."""


class Verbs(_WithNouns, TyperGroup):
    """A group of commands, whose wrong arguments are told with their value: Typer tells pydantic's words."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as refused:
            from conf.errors import in_plain_words

            refused.message = in_plain_words(refused.message)
            errors: list[Any] = getattr(refused.__cause__, "errors", list)()  # pydantic's, which has the value
            if errors and repr(errors[0]["input"]) not in refused.message:
                refused.message += f" (got {errors[0]['input']!r})"
            raise


def _noun(option: TyperOption) -> str | None:
    """None where the choices are shown."""
    kind = option.type_descriptor
    if option.is_flag:
        return ""
    if kind.is_choice:
        return None
    if kind.is_path:
        return "FOLDER" if kind.path_type == "dir" else "FILE"
    return _OF_NUMBERS.get(kind.annotation) or (option.name or "").upper()
