"""Imported before Ray's other modules in a process that forks others: their actors are named without Ray's own numbers.

A process draws names for its objects from a generator that is seeded when it is first used. Used before the fork, it
gives every process the same names, and two that keep an object of the same name at the same time break.
"""

import os

import ray.actor


class Names:
    """In place of the type of the names."""

    @staticmethod
    def from_random():
        return ray.ActorClassID(os.urandom(ray.ActorClassID.size()))


ray.actor.ActorClassID = Names
