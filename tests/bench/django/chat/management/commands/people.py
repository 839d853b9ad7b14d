from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Makes pairs of a customer and a therapist: people CUSTOMERS_FROM THERAPISTS_FROM PAIRS."

    def add_arguments(self, parser):
        for argument in ("customers_from", "therapists_from", "pairs"):
            parser.add_argument(argument, type=int)

    def handle(self, customers_from, therapists_from, pairs, **_):
        User = get_user_model()
        for begin in (customers_from, therapists_from):
            people = (User(id=begin + n, username=f"user{begin + n}") for n in range(pairs))
            User.objects.bulk_create(people, batch_size=1000)
