import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chat.settings")
django_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402  after Django's own
from django.urls import path  # noqa: E402

from .consumers import ChatConsumer, LocationConsumer  # noqa: E402
from .middleware import JWTAuthMiddleware  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": JWTAuthMiddleware(
            URLRouter(
                [
                    path("ws/chat/<int:customer_id>/<int:therapist_id>/", ChatConsumer.as_asgi()),
                    path("ws/location/<int:customer_id>/<int:therapist_id>/", LocationConsumer.as_asgi()),
                ]
            )
        ),
    }
)
