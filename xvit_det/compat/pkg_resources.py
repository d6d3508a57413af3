"""Stand-in for the part of ``pkg_resources`` that mmengine 0.10.7 uses, on top of ``importlib.metadata``."""

from importlib.metadata import Distribution, PackageNotFoundError, distribution

DistributionNotFound = PackageNotFoundError


class InstalledDistribution:
    """One installed distribution.

    Args:
        found: What ``importlib.metadata`` knows of it.
    """

    def __init__(self, found: Distribution) -> None:
        self._found = found
        self.project_name = found.metadata['Name']
        self.version = found.version
        self.location = str(found.locate_file(''))

    def has_metadata(self, name: str) -> bool:
        return self._found.read_text(name) is not None

    def get_metadata(self, name: str) -> str:
        return self._found.read_text(name) or ''


def get_distribution(name: str) -> InstalledDistribution:
    """Return the distribution of that name; raises ``DistributionNotFound`` if there is none."""
    return InstalledDistribution(distribution(name))
