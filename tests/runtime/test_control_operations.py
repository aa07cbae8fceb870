"""The table of operations: complete, consistent, and free to import."""

import inspect
import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from oneiric.core import errors
from oneiric.runtime.control import OPERATIONS, ControlPlane, Operation, requests, responses

BY_NAME = {operation.name: operation for operation in OPERATIONS}


def test_every_operation_is_a_method_of_the_plane_and_the_other_way_round() -> None:
    methods = {name for name, _ in inspect.getmembers(ControlPlane, inspect.isfunction) if not name.startswith("_")}

    assert methods == set(BY_NAME)


def test_names_and_routes_are_unique() -> None:
    assert len(BY_NAME) == len(OPERATIONS)
    assert len({(each.method, each.path) for each in OPERATIONS}) == len(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_an_operation_names_models_and_errors_that_exist(operation: Operation) -> None:
    assert issubclass(operation.request, BaseModel)
    assert issubclass(operation.response, BaseModel)
    assert set(operation.errors) <= set(errors.__all__)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_only_posts_change(operation: Operation) -> None:
    assert operation.method == "POST" or not operation.changes
    assert operation.changes == ("by" in operation.request.model_fields)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_a_field_that_is_not_known_is_refused(operation: Operation) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        operation.request.model_validate({"domain": "adapter", "key": "cache", "kye": 1})


def test_every_model_belongs_to_an_operation() -> None:
    used = {each.request.__name__ for each in OPERATIONS}
    answered = {each.response.__name__ for each in OPERATIONS}

    assert set(requests.__all__) == used
    assert {name for name in responses.__all__ if name.endswith("Response")} == answered


def test_importing_the_package_loads_no_model_library_and_no_server() -> None:
    heavy = "{'pydantic', 'starlette', 'uvicorn', 'http.client', 'ssl', 'structlog', 'asyncio'}"
    code = f"import sys, oneiric.runtime.control; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
