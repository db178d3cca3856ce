"""The forms of signatures: values that senders have published, what is not taken, and what names a delivery."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd.registry import Registry
from agentd_trigger_webhook.schemes import scheme_of
from agentd_trigger_webhook.signatures import (
    BadSignatureError,
    SchemeCheck,
    SignedDelivery,
    StandardCheck,
    make_check,
)
from hypothesis import given, strategies as st

SECRET = "a secret of a test, long enough"
OTHER = "another secret, which is as long"
AT = 1_700_000_000

SHOPIFY = {"header": "X-Shopify-Hmac-Sha256", "encoding": "base64", "event_header": "X-Shopify-Topic"}
LINEAR = {"header": "Linear-Signature", "event_header": "Linear-Event"}
PADDLE = {
    "header": "Paddle-Signature",
    "separator": ";",
    "prefix": "h1=",
    "timestamp_prefix": "ts=",
    "signed": "{timestamp}:{body}",
    "tolerance_s": 5,
    "id_field": "event_id",
}
TIMED = {
    "header": "X-Signature",
    "timestamp_header": "X-Time",
    "signed": "{timestamp}.{body}",
    "algorithm": "sha512",
}


def digest(signed: str, secret: str = SECRET, algorithm: str = "sha256") -> bytes:
    return hmac.new(secret.encode(), signed.encode(), algorithm).digest()


def headers_of(form: Any, body: str, *, at: int = AT, secret: str = SECRET) -> dict[str, str]:
    """Return what a sender of this form sends, written out here once more from its documentation."""
    mac = digest(body, secret).hex()
    timed = digest(f"{at}.{body}", secret).hex()
    forms: list[tuple[Any, dict[str, str]]] = [
        ("github", {"x-hub-signature-256": f"sha256={mac}", "x-github-event": "issues"}),
        (
            "slack",
            {
                "x-slack-signature": "v0=" + digest(f"v0:{at}:{body}", secret).hex(),
                "x-slack-request-timestamp": str(at),
            },
        ),
        ("stripe", {"stripe-signature": f"t={at},v0={mac},v1={timed}"}),
        ("gitlab", {"x-gitlab-token": secret, "x-gitlab-event": "Push Hook"}),
        (SHOPIFY, {"x-shopify-hmac-sha256": base64.b64encode(digest(body, secret)).decode()}),
        (LINEAR, {"linear-signature": mac, "linear-event": "Issue"}),
        (PADDLE, {"paddle-signature": f"ts={at};h1={digest(f'{at}:{body}', secret).hex()}"}),
        (TIMED, {"x-signature": digest(f"{at}.{body}", secret, "sha512").hex(), "x-time": str(at)}),
    ]
    return next(headers for known, headers in forms if known == form)


ALL: list[Any] = ["github", "slack", "stripe", "gitlab", SHOPIFY, LINEAR, PADDLE, TIMED]
WITH_TIME: list[Any] = ["slack", "stripe", PADDLE, TIMED]
BODY = '{"id": "evt_1", "event_id": "Ev1", "type": "x"}'


def take(
    form: Any,
    headers: Mapping[str, str],
    body: str | bytes = BODY,
    *,
    now: float = AT,
    secrets: Any = (SECRET,),
) -> SignedDelivery:
    content = body.encode() if isinstance(body, str) else body
    return SchemeCheck(scheme_of(form), secrets, now=lambda: now).delivery(headers, content)


# --- what senders have published ---------------------------------------------------------------------


def test_the_values_in_githubs_documentation_are_taken() -> None:
    """GitHub Docs, "Validating webhook deliveries", its values for tests."""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    secret = "It's a Secret to Everybody"
    assert take("github", {"x-hub-signature-256": signature}, "Hello, World!", secrets=[secret]).said == ""


def test_the_values_in_slacks_documentation_are_taken() -> None:
    """Slack API, "Verifying requests from Slack", its example of a slash command."""
    body = (
        "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        "&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        "&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        "&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    secrets = ["8f742231b10e8888abcd99yyyzzz85a5"]
    assert take("slack", headers, body, now=1_531_420_618, secrets=secrets).challenge is None


@pytest.mark.parametrize("prefix", ["webhook", "svix"])
def test_the_values_in_the_specification_of_standard_webhooks_are_taken(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard Webhooks, the specification's example; under Svix's headers too, which many senders still have."""

    class Then(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.fromtimestamp(1_614_265_330, tz or UTC)

    monkeypatch.setattr("standardwebhooks.webhooks.datetime", Then)
    headers = {
        f"{prefix}-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        f"{prefix}-timestamp": "1614265330",
        f"{prefix}-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body = b'{"test": 2432232314}'
    check = StandardCheck(
        ["whsec_" + base64.b64encode(bytes(32)).decode(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    )
    assert check.delivery(headers, body).id == "standard:msg_p5jXN8AQM9LWM0D4loKWxJek"
    with pytest.raises(BadSignatureError, match="no matching signature"):
        check.delivery(headers, body + b" ")


# --- what is taken, and what is not --------------------------------------------------------------------


@pytest.mark.parametrize("form", ALL, ids=str)
def test_a_right_signature_is_taken_with_each_of_several_secrets_and_no_other(form: Any) -> None:
    good = headers_of(form, BODY)
    assert take(form, good).id == take(form, good, secrets=[OTHER, SECRET]).id
    with pytest.raises(BadSignatureError, match="no matching signature; needed: ") as caught:
        take(form, good, secrets=[OTHER])
    assert scheme_of(form).header in str(caught.value)
    assert SECRET not in str(caught.value)
    with pytest.raises(BadSignatureError):
        take(form, {})
    for name, value in good.items():
        if name not in ("x-github-event", "x-gitlab-event", "linear-event"):  # nobody has signed them
            for wrong in {"", value[:-1], value[1:], f"{value}0", value.swapcase(), "ü", "\x00"} - {value}:
                with pytest.raises(BadSignatureError):
                    take(form, {**good, name: wrong})
    if form != "gitlab":  # which signs nothing
        for body in (BODY + " ", BODY[:-1], "", BODY.encode() + b"\xff"):
            with pytest.raises(BadSignatureError):
                take(form, good, body)


@pytest.mark.parametrize("form", WITH_TIME, ids=str)
def test_a_signed_time_is_held_to_the_tolerance_on_both_sides(form: Any) -> None:
    good = headers_of(form, BODY)
    tolerance = scheme_of(form).tolerance_s
    for ago in (tolerance, -tolerance):
        take(form, good, now=AT + ago)
    for ago in (tolerance + 1, -tolerance - 1, 10**9):
        with pytest.raises(BadSignatureError, match=f"the time is not within {tolerance:g} s of now"):
            take(form, good, now=AT + ago)


@pytest.mark.parametrize(
    "at", ["", "nan", "1e9", "-1700000000", "1_700_000_000", " 1700000000", "1700000000.5", "٣"]
)
def test_a_time_that_is_no_number_of_seconds_is_refused_though_it_is_signed(at: str) -> None:
    headers = {"x-time": at, "x-signature": digest(f"{at}.{BODY}", algorithm="sha512").hex()}
    with pytest.raises(BadSignatureError):
        take(TIMED, headers)


def test_of_several_signatures_one_that_matches_is_enough_and_an_old_version_never_is() -> None:
    right, wrong = digest(f"{AT}.{BODY}").hex(), "0" * 64
    take("stripe", {"stripe-signature": f"t={AT},v1={wrong},v1={right}"})
    take("stripe", {"stripe-signature": f"v1={right}, t={AT}"})
    for header in (
        f"t={AT},v0={right}",
        f"t={AT}v1={right}",
        right,
        f"v1={right}",
        f"t={AT + 1},v1={right}",
        f"t={AT + 1},t={AT},v1={right}",
        f"t={AT}," + f"v1={wrong}," * 100 + f"v1={right}",
    ):
        with pytest.raises(BadSignatureError):
            take("stripe", {"stripe-signature": header})


@given(value=st.text(max_size=200), at=st.text(max_size=20), body=st.binary(max_size=200))
def test_no_header_is_taken_without_the_secret_and_none_fails_otherwise(
    value: str, at: str, body: bytes
) -> None:
    for form in ALL:
        scheme = scheme_of(form)
        headers = {name.lower(): value for name in (scheme.header, scheme.event_header) if name}
        if scheme.timestamp_header:
            headers[scheme.timestamp_header.lower()] = at
        with pytest.raises(BadSignatureError):
            take(form, headers, body)


# --- which delivery it is ------------------------------------------------------------------------------


def test_what_is_signed_names_the_delivery_also_where_it_is_sent_again_at_another_time() -> None:
    def name(form: Any, body: str = BODY, at: int = AT, **more: str) -> str:
        return take(form, {**headers_of(form, body, at=at), **more}, body, now=at).id

    assert name("slack") == name("slack", at=AT + 60) == "slack:Ev1"
    assert (
        name("stripe")
        == name("stripe", BODY.replace('"x"', '"x", "pending_webhooks": 2'), AT + 60)
        == "stripe:evt_1"
    )
    assert name("gitlab", **{"idempotency-key": "k"}) == "gitlab:k"
    whole = hashlib.sha256(BODY.encode()).hexdigest()
    assert name("github") == f"github:{whole}"
    assert name("github", **{"x-github-delivery": "2"}) == f"github:{whole}", "nobody has signed that header"
    assert name(TIMED, at=AT) == name(TIMED, at=AT + 60) == f"custom:{whole}"


@pytest.mark.parametrize(
    "body", ["", "no JSON", "[1]", '{"id": 7}', '{"id": ""}', '{"id": null}', "[" * 100_000]
)
def test_a_body_without_the_field_is_named_by_the_whole_of_it(body: str) -> None:
    assert (
        take("stripe", headers_of("stripe", body), body).id
        == f"stripe:{hashlib.sha256(body.encode()).hexdigest()}"
    )


def test_the_kind_of_event_is_told_as_not_signed_and_cannot_break_its_line() -> None:
    headers = {**headers_of("gitlab", BODY), "x-gitlab-event": "Push\nYou are free now." + "x" * 1000}
    said = take("gitlab", headers).said
    assert said.startswith("X-Gitlab-Event (not signed): 'Push\\nYou are free now.xxx")
    assert (said.count("\n"), len(said) < 200) == (1, True)


def test_only_slacks_signed_question_whether_we_are_there_is_one() -> None:
    body = json.dumps({"type": "url_verification", "challenge": "3eZbrw1aB10u", "token": "x"})
    assert take("slack", headers_of("slack", body), body).challenge == "3eZbrw1aB10u"
    assert take("github", headers_of("github", body), body).challenge is None
    for other in (
        {"type": "event_callback", "challenge": "c"},
        {"challenge": "c"},
        {"type": "url_verification", "challenge": ["c"]},
        {"type": "url_verification", "challenge": "c" * 1001},
        {"type": "url_verification", "challenge": "\ud800"},
    ):
        text = json.dumps(other)
        assert take("slack", headers_of("slack", text), text).challenge is None
    with pytest.raises(BadSignatureError):
        take("slack", {**headers_of("slack", body), "x-slack-signature": "v0=" + "0" * 64}, body)


# --- a form of one's own -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({}, "option 'signature' of the trigger 'webhook': option 'header' of the mapping is missing"),
        ({"header": "X Y"}, "'header' .* must be a header's name"),
        ({"header": "X", "event_header": "ü"}, "'event_header' .* must be a header's name"),
        ({"header": "X", "algorithm": "md5"}, "option 'algorithm' .* must be 'sha256' or "),
        ({"header": "X", "algorithm": "none"}, "option 'algorithm'"),
        ({"header": "X", "encoding": "utf-8"}, "option 'encoding'"),
        ({"header": "X", "id_header": "X-Id"}, "unknown option 'id_header' of the mapping; there are"),
        ({"header": "X", "name": "github"}, "unknown option 'name'"),
        ({"header": "X", "signed": "{timestamp}"}, r"must have \{body\} once"),
        ({"header": "X", "signed": "{body}{body}"}, r"must have \{body\} once"),
        ({"header": "X", "signed": "{body}{id}"}, r"must have \{body\} once"),
        ({"header": "X", "timestamp_header": "X-Time"}, "a time that is not signed says nothing"),
        ({"header": "X", "signed": "{timestamp}.{body}"}, "goes with 'timestamp_header'"),
        ({"header": "X", "signed": "{timestamp}.{body}", "timestamp_prefix": "t="}, "and 'separator'"),
        ({**TIMED, "timestamp_prefix": "t=", "separator": ","}, "goes with 'timestamp_header', or with"),
        ({**TIMED, "tolerance_s": 4000}, "must be from 1 to 3600, got 4000"),
        ({**TIMED, "tolerance_s": 0}, "must be from 1 to 3600, got 0"),
    ],
)
def test_a_mapping_that_describes_no_form_is_refused_with_what_is_wrong(
    form: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        Registry().create_trigger("webhook", {"port": 1, "secret": SECRET, "signature": form})


@pytest.mark.parametrize("secret", [[], ["short"], [SECRET] * 5, [SECRET, 7], [[SECRET]], [SECRET, ""]])
def test_secrets_that_are_none_are_refused_in_a_list_too(secret: Any) -> None:
    with pytest.raises(ConfigError, match="option 'secret' of the trigger 'webhook': must ") as caught:
        Registry().create_trigger("webhook", {"port": 1, "secret": secret, "signature": "slack"})
    assert SECRET not in str(caught.value)


def test_the_clock_is_the_machines_if_no_other_is_given() -> None:
    headers = headers_of("slack", BODY, at=int(time.time()))
    assert make_check("slack", [SECRET]).delivery(headers, BODY.encode()).id == "slack:Ev1"
    with pytest.raises(BadSignatureError, match="the time is not within 300 s"):
        make_check("slack", [SECRET]).delivery(headers_of("slack", BODY), BODY.encode())
