"""Django Channels as its tutorial sets it up: Daphne, Postgres, channels_redis with its defaults, a patient redis-py, SimpleJWT."""

import os
from urllib.parse import urlparse

database = urlparse(os.environ["DATABASE_URL"])

SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "rest_framework_simplejwt",
    "channels",
    "chat",
]
ASGI_APPLICATION = "chat.asgi.application"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database.path.lstrip("/"),
        "USER": database.username,
        "HOST": database.hostname,
        "PORT": database.port,
        # Else every request opens a connection of its own.
        "CONN_MAX_AGE": 60,
    }
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        # Since its version 8, redis-py ends a consumer with an exception, and so its socket, when an answer takes 5 s or 100
        # connections are in use. channels_redis was made for one that waits.
        "CONFIG": {
            "hosts": [{"address": os.environ["REDIS_URL"], "max_connections": 10_000, "socket_timeout": None}]
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
