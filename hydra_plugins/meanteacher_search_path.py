"""Lets Hydra find this project's sweeps beside its configuration, whichever primary configuration is composed."""

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from meanteacher.config.locations import CONF, SWEEPS


class MeanTeacherSearchPath(SearchPathPlugin):
    """Appends the folder of the sweeps where the main configuration is this project's; leaves other programs alone."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for element in search_path.get_path():
            if element.provider == "main" and Path(element.path.removeprefix("file://")) == CONF:
                search_path.append(provider="meanteacher", path=f"file://{SWEEPS}")
                return
