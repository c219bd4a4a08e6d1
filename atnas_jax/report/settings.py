"""How to get the same run again: command, settings, versions."""

import json
from typing import Any

from ml_collections import ConfigDict

from atnas_jax.job.config import setting_names
from atnas_jax.job.defaults import default_config
from atnas_jax.report.html import Section, absent, escape, paragraph, table, typed
from atnas_jax.report.read import Record


def section(run: Record) -> Section:
    """Return command, settings that are not the defaults, all settings, versions."""
    if run.command:
        body = f"<p>Command:</p>{typed(run.command)}"
    else:
        body = absent("the command", "The run was started from Python, or before commands were kept.")
    changed = changed_settings(run.config)
    body += "<p>Settings that are not the defaults:</p>"
    body += table(("setting", "value", "default"), changed, text=(1, 2)) if changed else paragraph("none")
    whole = json.dumps(run.config.to_dict(), indent=2)
    body += f'<p>All settings, as resolved:</p><pre class="long">{escape(whole)}</pre>'
    if run.results:
        body += table(("", "version"), list(run.results["versions"].items()), text=(1,))
        data = run.results["data"]
        body += paragraph(
            f"Data: {data['source']}, split {data['split']}, fingerprint {data['fingerprint']}, classes "
            + ", ".join(f"{name} {count}" for name, count in data["class_counts"].items())
            + f"; seed {run.results['seed']}."
        )
    return Section("settings", "Command and settings", body)


def changed_settings(config: ConfigDict) -> list[tuple[str, str, str]]:
    """Return (dotted name, value, default) of every setting that is not its default."""
    defaults = default_config()
    names = [name for name in setting_names(config) if name in setting_names(defaults)]
    pairs = [(name, _get(config, name), _get(defaults, name)) for name in names]
    return [(name, repr(value), repr(default)) for name, value, default in pairs if value != default]


def _get(config: ConfigDict, name: str) -> Any:
    for part in name.split("."):
        config = config[part]
    return config
