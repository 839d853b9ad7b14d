"""Prints sessions made by the Django that is installed, a JSON object a line: the test data `sessions.jsonl`.

    for version in 3.1.14 3.2.25 4.2.25 5.2.8 6.0.10; do
        python3 -m venv django-$version && django-$version/bin/pip install --quiet django==$version
        django-$version/bin/python services/identity/src/django/make_sessions.py
    done > services/identity/src/django/sessions.jsonl

(Django 6.0 wants Python 3.12 or later; 3.1 wants 3.11 or earlier.)
"""

import hashlib
import json

import django
from django.conf import settings

SECRET_KEY = "a test's SECRET_KEY, which Django wants to have fifty characters"
settings.configure(
    SECRET_KEY=SECRET_KEY,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    USE_TZ=True,
)
django.setup()

from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core import signing
from django.core.management import call_command
from django.db import connection
from django.test import Client

SALT = "django.contrib.sessions.SessionStore"

call_command("migrate", verbosity=0)
user = User.objects.create(id=7, username="johndoe", password="pbkdf2_sha256$1000$salt$c29tZSBoYXNo")


def put(name, session_data, **more):
    print(json.dumps({"django": django.get_version(), "name": name, "session_data": session_data, **more}))


def stored(name, user):
    """A session as a login leaves it in the database."""
    client = Client()
    client.force_login(user)
    with connection.cursor() as cursor:
        # As SQLite has it: an expression is not converted.
        cursor.execute("SELECT session_key, session_data, expire_date || '' FROM django_session")
        [(key, data, expire_date)] = cursor.fetchall()
        put(name, data, session_key=key, expire_date=expire_date)
        cursor.execute("DELETE FROM django_session")
    return SessionStore().decode(data)


content = stored("login", user)
store = SessionStore()
put("uncompressed", signing.dumps(content, salt=SALT, compress=False))
noise = [hashlib.sha256(bytes([number])).hexdigest() for number in range(64)]
put("large", store.encode({**content, "basket": noise}))
put("uuid", store.encode({**content, "_auth_user_id": "0190c42e-7a4b-7000-8000-00000000abcd"}))
put("anonymous", store.encode({"basket": [1, 2]}))
put("empty", store.encode({}))
put("no_hash", store.encode({name: value for name, value in content.items() if name != "_auth_user_hash"}))
put("no_backend", store.encode({name: value for name, value in content.items() if name != "_auth_user_backend"}))
put("no_object", store.encode([1, 2, 3]))
put("huge", store.encode({**content, "basket": "0" * (1 << 21)}))
put("other_salt", signing.dumps(content, salt="something.else", compress=True))
put("other_key", signing.dumps(content, key="another SECRET_KEY", salt=SALT, compress=True))
