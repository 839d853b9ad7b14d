from django.contrib.auth import views
from django.http import JsonResponse
from django.urls import path


def whoami(request):
    return JsonResponse({"user": request.user.get_username()})


def basket(request):
    """A session without a login."""
    request.session["basket"] = [1, 2]
    return JsonResponse({})


urlpatterns = [
    path("login/", views.LoginView.as_view()),
    path("logout/", views.LogoutView.as_view()),
    path("password/", views.PasswordChangeView.as_view(success_url="/whoami/")),
    path("whoami/", whoami),
    path("basket/", basket),
]
