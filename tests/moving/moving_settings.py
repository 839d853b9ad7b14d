"""The project of tests/bench/django as it stands, with the app that moves it; its sockets in one process."""

from chat.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "switchboard_moving"]  # noqa: F405
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
