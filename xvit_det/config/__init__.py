"""A config on its way to a Runner: loaded, overridden, checked together with its data and weights."""
