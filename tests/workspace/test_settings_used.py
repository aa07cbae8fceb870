"""Every setting that is published is read by something: one that is accepted and ignored would be a lie."""

from __future__ import annotations

import ast
from pathlib import Path

from oneiric.core.catalog import discover
from oneiric.core.resolution import Resolver
from oneiric.core.security import load_factory
from oneiric.runtime.settings import OneiricSettings, setting_fields

SOURCES = sorted(Path(__file__).resolve().parents[2].glob("packages/*/src/**/*.py"))
#: Read as text, before there are settings: it says which variables a settings file may name.
BEFORE_SETTINGS = {"app.allowed_env"}
#: Accepted from earlier configurations, and said to have no effect where they are declared.
WITHOUT_EFFECT = {"redis-streams.consumer_buffer_size"}


def read_names() -> set[str]:
    """Return every attribute that some source reads, by name alone."""
    nodes = (node for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


def test_every_setting_is_read_somewhere() -> None:
    read = read_names()
    keys = {field.key for field in setting_fields(OneiricSettings)} - BEFORE_SETTINGS

    assert len(keys) > 100
    assert {key for key in keys if key.rpartition(".")[2] not in read} == set()


def test_every_setting_of_a_provider_is_read_somewhere() -> None:
    read, resolver = read_names(), Resolver()
    discover(resolver)
    models = {each.provider: each.settings_model for each in resolver.candidates() if each.settings_model}
    keys = {f"{provider}.{name}" for provider, model in models.items() for name in load_factory(model).model_fields}

    assert len(models) > 5
    assert {key for key in keys if key.rpartition(".")[2] not in read} == WITHOUT_EFFECT
