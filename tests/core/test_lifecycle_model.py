"""Whatever is asked of a lifecycle, in whatever order, it agrees with a small model of itself."""

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from oneiric.core import Candidate, Key, LifecycleManager, LifecycleTimeouts, Resolver
from oneiric.core.errors import ActivationError, InactiveError, SwapError
from oneiric.core.testing import FakeComponent

X: Key[Any] = Key("service", "x")
PROVIDERS = ("one", "two")
STEPS = ("init", "health")


class LifecycleModel(RuleBasedStateMachine):
    """The model: what serves, whether it was retired, what a swap selected, and the leases held."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.made: list[tuple[str, FakeComponent]] = []
        self.next_faults: dict[str, Any] = {}
        self.serving: str | None = None
        self.retired = False
        self.selected: str | None = None
        self.leases: list[tuple[Any, FakeComponent]] = []
        self.resolver = Resolver()
        for provider in PROVIDERS:
            self.resolver.register(
                Candidate(domain="service", key="x", provider=provider, factory=self.maker(provider))
            )
        self.lifecycle = LifecycleManager(self.resolver, timeouts=LifecycleTimeouts(drain_seconds=0))

    def maker(self, provider: str) -> Any:
        def make() -> FakeComponent:
            component = FakeComponent(self.next_faults)
            self.next_faults = {}
            self.made.append((provider, component))
            return component

        return make

    @property
    def ranked(self) -> str:
        return self.selected or PROVIDERS[-1]

    @rule(provider=st.none() | st.sampled_from(PROVIDERS))
    def swap(self, provider: str | None) -> None:
        self.runner.run(self.lifecycle.swap(X, provider=provider))
        self.selected = provider
        self.serving, self.retired = self.ranked, False

    @rule(provider=st.none() | st.sampled_from(PROVIDERS), step=st.sampled_from(STEPS))
    def swap_that_fails(self, provider: str | None, step: str) -> None:
        self.next_faults = {step: "raise"}
        with pytest.raises((SwapError, ActivationError)) as caught:
            self.runner.run(self.lifecycle.swap(X, provider=provider))
        assert caught.value.rolled_back is (self.serving is not None)

    @rule()
    def activate(self) -> None:
        self.runner.run(self.lifecycle.activate(X))
        self.serving, self.retired = self.serving or self.ranked, False

    @rule()
    def take_lease(self) -> None:
        lease = self.lifecycle.lease(X)
        try:
            component = self.runner.run(lease.__aenter__())
        except InactiveError:
            assert self.retired
            assert self.serving is None
        else:
            assert not self.retired
            self.serving = self.serving or self.ranked
            self.leases.append((lease, component))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def give_lease_back(self, data: st.DataObject) -> None:
        lease, component = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        assert not component.closed
        self.runner.run(lease.__aexit__(None, None, None))

    @rule()
    def retire(self) -> None:
        self.runner.run(self.lifecycle.retire(X))
        self.serving, self.retired = None, True

    @rule()
    def reconcile(self) -> None:
        self.runner.run(self.lifecycle.reconcile())
        if self.serving is not None:
            self.serving = self.ranked

    @invariant()
    def agrees(self) -> None:
        self.runner.run(asyncio.sleep(0))
        status = self.lifecycle.get_status(X)
        assert status.current_provider == self.serving
        assert self.resolver.resolve(X).provider == self.ranked
        held = {id(component) for _, component in self.leases}
        serving = self.lifecycle.get_instance(X)
        for provider, component in self.made:
            in_use = component is serving or id(component) in held
            assert not (in_use and component.closed), "an instance in use was cleaned up"
            assert component.steps.count("cleanup") <= 1
            if component is serving:
                assert provider == self.serving

    def teardown(self) -> None:
        for lease, _ in self.leases:
            self.runner.run(lease.__aexit__(None, None, None))
        self.runner.run(self.lifecycle.aclose())
        assert all(component.closed for _, component in self.made)
        self.runner.close()


TestLifecycleModel = LifecycleModel.TestCase
TestLifecycleModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
