"""Settings: the one table of them, and where each value comes from."""

from zmflow.config.option import Option
from zmflow.config.options import OPTIONS, option_for
from zmflow.config.settings import Settings, SettingValue, load_settings

__all__ = ["OPTIONS", "Option", "SettingValue", "Settings", "load_settings", "option_for"]
