"""Django: polls in one file. A link votes, so a GET changes a row: a mistake of its author."""

import os
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connection, models
from django.http import JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path

# Tests in a browser leave an event loop in their thread, so Django would take it for asynchronous.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "polls.db"}},
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="used by tests only",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "DIRS": [Path(__file__).parent / "templates"],
        }
    ],
)
django.setup()


class Question(models.Model):
    text = models.CharField(max_length=200)
    votes = models.IntegerField(default=0)

    class Meta:
        app_label = "polls"


def index(request: Any) -> Any:
    return render(request, "polls.html", {"questions": Question.objects.order_by("-votes")})


def add(request: Any) -> Any:
    if request.method != "POST":
        return render(request, "question.html")
    question = Question.objects.create(text=request.POST["text"])
    request.session["asked"] = question.pk
    return redirect("index")


def vote(_request: Any, number: int) -> Any:
    question = get_object_or_404(Question, pk=number)
    question.votes += 1
    question.save()
    return redirect("index")


def as_json(_request: Any) -> Any:
    return JsonResponse({"questions": list(Question.objects.values("text", "votes"))})


urlpatterns = [
    path("", index, name="index"),
    path("add/", add, name="add"),
    path("vote/<int:number>/", vote, name="vote"),
    path("questions.json", as_json),
]
app = get_wsgi_application()


def create_database() -> None:
    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(Question)
    Question.objects.create(text="Tea or coffee?")
    connection.close()
