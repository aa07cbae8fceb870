"""Which implementation stands for a key, and why: candidates, policy, resolver, explanation, journal."""

from oneiric.core._candidate import BUILTIN_DOMAINS, Candidate, CandidateSource
from oneiric.core._eligibility import Obstacle
from oneiric.core._environment import Environment
from oneiric.core._explanation import Explanation, RankedCandidate, SetAsideCandidate
from oneiric.core._journal import Journal, JournalAnswer, JournalEntry
from oneiric.core._key import Key
from oneiric.core._policy import Policy, Selection, StackOrder, path_priority
from oneiric.core._resolver import Resolver
from oneiric.core._why_not import LeastChange, WhyNot

__all__ = [
    "BUILTIN_DOMAINS",
    "Candidate",
    "CandidateSource",
    "Environment",
    "Explanation",
    "Journal",
    "JournalAnswer",
    "JournalEntry",
    "Key",
    "LeastChange",
    "Obstacle",
    "Policy",
    "RankedCandidate",
    "Resolver",
    "Selection",
    "SetAsideCandidate",
    "StackOrder",
    "WhyNot",
    "path_priority",
]
