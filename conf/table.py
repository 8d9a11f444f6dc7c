"""The settings as a Markdown table, that of docs/settings.md."""

from conf.settings import Settings

_COMPUTED = {"mart_home": ".mart", "mart_cache": "user cache"}


def settings_table() -> str:
    """One row per setting: environment variable, default, meaning."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = _COMPUTED.get(name, field.default)
        shown = "" if default is None else f"`{default}`"
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)
