from django.contrib import admin, messages
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from wsgisession.django import require_device_proof


def untouched(request):
    return HttpResponse("untouched")


def count(request):
    request.session["count"] = request.session.get("count", 0) + 1
    return HttpResponse(str(request.session["count"]))


def nested(request):
    request.session.setdefault("cart", [])
    request.session["cart"].append(1)
    request.session.modified = True
    return HttpResponse(str(len(request.session["cart"])))


def show(request):
    return JsonResponse({"data": {key: str(value) for key, value in request.session.items()}})


def put(request, key, value):
    request.session[key] = value
    return HttpResponse("ok")


@csrf_exempt
def sign_in(request):
    user = authenticate(request, username="ada", password=request.POST["password"])
    login(request, user)
    return HttpResponse(request.session.session_key or "")


def sign_out(request):
    logout(request)
    return HttpResponse("bye")


def new_password(request):
    request.user.set_password("another")
    request.user.save()
    update_session_auth_hash(request, request.user)
    return HttpResponse("changed")


def say(request):
    messages.info(request, "hello")
    return HttpResponse("said")


def hear(request):
    return HttpResponse(",".join(str(message) for message in messages.get_messages(request)))


def expiry(request, seconds):
    request.session["a"] = 1
    request.session.set_expiry(seconds)
    return HttpResponse("ok")


def clear(request):
    request.session.flush()
    return HttpResponse("cleared")


def key(request):
    if not request.session.session_key:
        request.session.create()
    return HttpResponse(request.session.session_key)


def play(request, order):
    """Call these methods of the session one after the other, and return what each did."""
    done = []
    for number, method in enumerate(order.split("-")):
        try:
            if method == "set":
                request.session[f"set {number}"] = number
            else:
                getattr(request.session, method)()
            done.append("")
        except Exception as error:
            done.append(type(error).__name__)
    return JsonResponse({"done": done, "data": dict(request.session.items())})


@require_device_proof(max_age=60)
def pay(request):
    return JsonResponse({"bound": request.session.is_bound, "algorithm": request.session.device.algorithm})


@csrf_exempt
@require_device_proof(max_age=60)
async def pay_async(request):
    return HttpResponse("paid")


def up(request):
    return HttpResponse("up")


urlpatterns = [
    path("up", up),
    path("key", key),
    path("", untouched),
    path("count", count),
    path("nested", nested),
    path("show", show),
    path("put/<key>/<value>", put),
    path("sign-in", sign_in),
    path("sign-out", sign_out),
    path("new-password", new_password),
    path("say", say),
    path("hear", hear),
    path("expiry/<int:seconds>", expiry),
    path("clear", clear),
    path("play/<order>", play),
    path("pay", pay),
    path("pay-async", pay_async),
    path("admin/", admin.site.urls),
]
