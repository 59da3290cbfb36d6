"""Puts back what Python 3.10 and 3.11 took away and older peers use; Python imports it itself."""

import collections
import collections.abc
import inspect

for _name in collections.abc.__all__:
    if not hasattr(collections, _name):
        setattr(collections, _name, getattr(collections.abc, _name))


def _getargspec(function):
    found = inspect.getfullargspec(function)
    return inspect.ArgSpec(found.args, found.varargs, found.varkw, found.defaults)


if not hasattr(inspect, "getargspec"):
    inspect.ArgSpec = collections.namedtuple("ArgSpec", "args varargs keywords defaults")
    inspect.getargspec = _getargspec
