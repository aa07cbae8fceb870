"""Two processes' stores on one file, against a dictionary: whatever happens to the file, nothing paused is resumed."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from oneiric.runtime.activity import DomainActivity, DomainActivityStore

KEYS = st.sampled_from(["cache", "pay", "mail"])
STATES = st.builds(
    DomainActivity,
    paused=st.booleans(),
    draining=st.booleans(),
    note=st.none() | st.just("why"),
    since=st.just(1.0),
    until=st.none() | st.floats(1.0, 60.0).map(lambda seconds: 1_000.0 + seconds),
)
WHO = st.sampled_from([0, 1])


class ActivityModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.model: dict[str, DomainActivity] = {}
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "domain_activity.sqlite"
        self.runner = asyncio.Runner()
        self.stores = [DomainActivityStore(self.path, clock=self.clock) for _ in range(2)]
        for store in self.stores:
            self.runner.run(store.open())

    def clock(self) -> float:
        return self.now

    def teardown(self) -> None:
        for store in self.stores:
            self.runner.run(store.aclose())
        self.runner.close()
        self.directory.cleanup()

    def expected(self) -> dict[str, DomainActivity]:
        return {key: state for key, state in self.model.items() if not state.has_ended(self.now)}

    def refresh(self) -> None:
        for store in self.stores:
            self.runner.run(store.refresh())

    @rule(who=WHO, key=KEYS, state=STATES)
    def set(self, who: int, key: str, state: DomainActivity) -> None:
        self.runner.run(self.stores[who].set("service", key, state))
        self.model.pop(key, None)
        if not state.is_default:
            self.model[key] = state
        assert self.stores[who].all_for_domain("service").get(key) == self.expected().get(key)

    @rule(who=WHO)
    def restart(self, who: int) -> None:
        self.runner.run(self.stores[who].aclose())
        self.stores[who] = DomainActivityStore(self.path, clock=self.clock)
        self.runner.run(self.stores[who].open())

    @rule(seconds=st.floats(0.1, 50.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(how=st.sampled_from(["deleted", "emptied"]))
    def lose(self, how: str) -> None:
        self.refresh()  # what one alone knew, the copy knows too
        for each in self.path.parent.glob("domain_activity.sqlite*"):
            each.unlink()
        if how == "emptied":
            self.path.touch()
        # What only left a note is gone; what keeps work away is not.
        self.model = {key: state for key, state in self.expected().items() if not state.takes_work}

    @invariant()
    def both_agree_with_the_model_after_a_refresh(self) -> None:
        self.refresh()
        for store in self.stores:
            assert store.problem is None
            assert store.all_for_domain("service") == self.expected()
            for key in ("cache", "pay", "mail"):
                assert store.get("service", key) == self.expected().get(key, DomainActivity())


ActivityModel.TestCase.settings = settings(max_examples=15, stateful_step_count=12, deadline=None, derandomize=True)
TestActivityModel = ActivityModel.TestCase
