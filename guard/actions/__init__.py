"""All that guard can do, and the one way in.

Whatever changes state, keys, the shop or a repository is an `Action` and runs through `perform`: allow, record "begun",
work, record the end in the same transaction as the state change. No record, no action.
"""

from guard.actions._perform import Action, Caller, Outcome, Plan, Task, perform

__all__ = ["Action", "Caller", "Outcome", "Plan", "Task", "perform"]
