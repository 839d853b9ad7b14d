"""Does at the site what people and administrators do: a JSON array a line, the action and its arguments; answers with a
line of JSON. `DATABASE_URL`, `SECRET_KEY` and `SECRET_KEY_FALLBACKS` come from the environment."""

import json
import os
import sys
from datetime import timedelta

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

import django

django.setup()

from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.test import Client
from django.utils import timezone


def browser(session=None):
    client = Client()
    if session:
        client.cookies["sessionid"] = session
    return client


def cookie(client):
    return client.cookies["sessionid"].value


def post(client, path, fields):
    response = client.post(path, fields)
    if response.status_code != 302:
        raise SystemExit(f"{path}: {response.status_code} {response.content[:500]}")
    return client


def prepare():
    call_command("migrate", verbosity=0)


def add_user(id, username, password, fields):
    User.objects.create_user(id=id, username=username, password=password, **fields)


def login(username, password):
    return cookie(post(browser(), "/login/", {"username": username, "password": password}))


def logout(session):
    post(browser(session), "/logout/", {})


def change_password(session, old, new):
    """Whoever changes the own password stays logged in, by a new session."""
    fields = {"old_password": old, "new_password1": new, "new_password2": new}
    return cookie(post(browser(session), "/password/", fields))


def set_password(username, password):
    user = User.objects.get(username=username)
    user.set_password(password)
    user.save()


def set_active(username, is_active):
    User.objects.filter(username=username).update(is_active=is_active)


def delete_user(username):
    User.objects.get(username=username).delete()


def visit_without_login():
    client = browser()
    client.get("/basket/")
    return cookie(client)


def expire(session, seconds):
    """Ends a session in so many seconds."""
    Session.objects.filter(pk=session).update(expire_date=timezone.now() + timedelta(seconds=seconds))


def whoami(session):
    """Whom the site itself takes a cookie for."""
    return browser(session).get("/whoami/").json()["user"]


ACTIONS = [
    prepare,
    add_user,
    login,
    logout,
    change_password,
    set_password,
    set_active,
    delete_user,
    visit_without_login,
    expire,
    whoami,
]
actions = {action.__name__: action for action in ACTIONS}
for line in sys.stdin:
    name, *arguments = json.loads(line)
    print(json.dumps(actions[name](*arguments)), flush=True)
