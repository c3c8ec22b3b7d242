"""What a Redis URL says is obeyed or refused, and never quietly left out."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioworkers import App, Client, ConfigurationError
from trioworkers.redis_url import Cluster, RedisUrl, Sentinels, Tls, at_namespace, parse_redis_url, shown_url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://localhost", RedisUrl("localhost")),
        ("redis://h:7/3", RedisUrl("h", 7, db=3)),
        ("redis://h/3/", RedisUrl("h", db=3)),
        ("redis://h/1?db=4", RedisUrl("h", db=4)),
        ("redis://[::1]:7", RedisUrl("::1", 7)),
        ("redis://me:p%2Fw%23@h", RedisUrl("h", username="me", password="p/w#")),
        (
            "redis://:pw@h?client_name=c&connect_timeout=0.5",
            RedisUrl("h", password="pw", client_name="c", connect_timeout_s=0.5),
        ),
        (
            "unix:///run/r%20s.sock?db=2&username=u&password=p",
            RedisUrl(path="/run/r s.sock", db=2, username="u", password="p"),
        ),
        ("rediss://h", RedisUrl("h", tls=Tls())),
        ("rediss://h?ssl_ca_certs=/ca.pem", RedisUrl("h", tls=Tls(ca_certs="/ca.pem"))),
        ("rediss://h?ssl_cert_reqs=required", RedisUrl("h", tls=Tls())),
        ("rediss://h?ssl_cert_reqs=optional", RedisUrl("h", tls=Tls())),
        ("rediss://h?ssl_cert_reqs=none", RedisUrl("h", tls=Tls(checked=False, check_hostname=False))),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", RedisUrl("h", tls=Tls(checked=False, check_hostname=False))),
        (
            "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=true",
            RedisUrl("h", tls=Tls(checked=False, check_hostname=False)),
        ),
        ("rediss://h?ssl_check_hostname=False", RedisUrl("h", tls=Tls(check_hostname=False))),
        (
            "rediss://h?ssl_certfile=c&ssl_keyfile=k&ssl_password=s",
            RedisUrl("h", tls=Tls(certfile="c", keyfile="k", key_password="s")),
        ),
        ("rediss://h?ssl_certfile=both.pem", RedisUrl("h", tls=Tls(certfile="both.pem"))),
    ],
)
def test_all_that_it_says_is_read(url: str, says: RedisUrl):
    assert parse_redis_url(url) == says


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+sentinel://a/main", Sentinels("main", (("a", 26379),))),
        ("redis+sentinel://a:1,b:2,[::1]:3/my%2Fmain/4", Sentinels("my/main", (("a", 1), ("b", 2), ("::1", 3)))),
        ("redis+sentinel://a:1,a:1/main/", Sentinels("main", (("a", 1),))),
        (
            "redis+sentinel://me:pw@a:1,b:2/main?sentinel_username=su&sentinel_password=sp",
            Sentinels("main", (("a", 1), ("b", 2)), "su", "sp"),
        ),
        ("rediss+sentinel://a/main?ssl_ca_certs=/c", Sentinels("main", (("a", 26379),), tls=Tls("/c"))),
        ("rediss+sentinel://a/main?sentinel_tls=no", Sentinels("main", (("a", 26379),))),
    ],
)
def test_sentinels_are_read(url: str, says: Sentinels):
    found = parse_redis_url(url)
    assert found.sentinels == says
    assert (found.username, found.password) == (("me", "pw") if "me:pw" in url else (None, None))
    assert found.db == (4 if url.endswith("/4") else 0)
    assert (found.tls is not None) == url.startswith("rediss")


def test_nodes_of_a_cluster_are_read():
    found = parse_redis_url("rediss+cluster://me:pw@a:1,b,[::1]:3/0?ssl_ca_certs=/c")
    assert found.cluster == Cluster((("a", 1), ("b", 6379), ("::1", 3)))
    assert (found.username, found.password, found.tls) == ("me", "pw", Tls("/c"))
    placed = at_namespace(found, "{shop}").cluster
    assert placed is not None
    assert placed.key == "{shop}:tw:inprogress"
    assert at_namespace(RedisUrl("h"), "shop") == RedisUrl("h")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://h?ssl_ca_cert=/ca.pem", "unknown parameter 'ssl_ca_cert'"),
        ("redis://h?max_connections=3", "unknown parameter"),
        ("redis://h?noreply=1", "unknown parameter"),
        ("redis://h?socket_timeout=3", "known are db, username, password, client_name, connect_timeout"),
        ("redis://h?ssl_ca_certs=/ca.pem", "ssl_ca_certs is for TLS: rediss://"),
        ("unix:///s?ssl_cert_reqs=none", "is for TLS"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs can't be 'maybe'"),
        ("rediss://h?ssl_check_hostname=", "ssl_check_hostname can't be ''"),
        ("rediss://h?ssl_ca_certs=", "ssl_ca_certs can't be ''"),
        ("rediss://h?ssl_keyfile=k", "ssl_keyfile without ssl_certfile"),
        ("redis://h?db=one", "db can't be 'one'"),
        ("redis://h?db=-1", "db can't be '-1'"),
        ("redis://h?connect_timeout=nan", "connect_timeout can't be 'nan'"),
        ("redis://h?connect_timeout=0", "connect_timeout can't be '0'"),
        ("rediss://h?ssl_ca_certs=a&ssl_cert_reqs=none&ssl_ca_certs=b", "ssl_ca_certs is given twice"),
        ("redis://h/prod", "a database is a number, not 'prod'"),
        ("redis://h/0#frag", "'#'"),
        ("redis://u:1/2@h/0", "in a password write %2F for /"),
        ("redis://u:1?2@h", "in a password write %3F for ?"),
        ("redis://u:p@h?username=v", "username is given twice"),
        ("redis+sentinel://:p@h/main?password=q", "password is given twice"),
        ("redis+sentinel://u:p@a,u:p@b/main", "one login is for all hosts"),
        ("redis+cluster://u:p@a,u:p@b", "one login is for all hosts"),
        ("redis://a,b/0", "redis+sentinel:// or redis+cluster://"),
        ("redis://h /0", "there can be no host 'h '"),
        ("redis://${HOST}:6379", "there can be no host"),
        ("redis://a..b", "there can be no host 'a..b'"),
        ("redis://.", "there can be no host '.'"),
        (f"redis://{'a' * 64}", "there can be no host"),
        ("redis+sentinel://a..b/main", "there can be no host"),
        ("redis+cluster://a,b|c", "there can be no host 'b|c'"),
        ("redis://h%00", "%00 can be in none of its parts"),
        ("unix:///run/s%00", "%00 can be in none of its parts"),
        ("rediss://h?ssl_ca_certs=a%00", "%00 can be in none of its parts"),
        ("redis://u:p%FF@h", "what is written with % must be UTF-8"),
        ("redis://h?password=%FF", "what is written with % must be UTF-8"),
        ("redis+sentinel://h/%FF", "what is written with % must be UTF-8"),
        ("redis://u:p\ns@h", "there is a control character in it"),
        ("unix://run/redis.sock", "unix:///run/redis.sock"),
        ("redis://h?client_name=a%20b", "client_name can't be 'a b'"),
        ("REDIS://h", "no Redis URL"),
        ("Redis+Cluster://h", "no Redis URL"),
        ("unix:/run/redis.sock", "no Redis URL"),
        ("redis://h:0", "no Redis URL"),
        ("redis://h:port", "no Redis URL"),
        ("redis://[::1", "no Redis URL"),
        ("redis://", "no Redis URL"),
        ("unix://", "no Redis URL"),
        ("http://h", "no Redis URL"),
        ("redis+sentinel://h", "the name that the Sentinels have for their primary is missing"),
        ("redis+sentinel://h//0", "the name that the Sentinels have"),
        ("redis+sentinel://h/main/prod", "a database is a number, not 'prod'"),
        ("redis+sentinel://h,/main", "no Redis URL"),
        ("redis+sentinel://h:0/main", "no Redis URL"),
        ("redis+sentinel:///main", "no Redis URL"),
        ("redis+sentinel://h/main?sentinel_tls=no", "sentinel_tls is for TLS: rediss+sentinel://"),
        ("redis+sentinel://h/main?ssl_cert_reqs=none", "is for TLS"),
        ("redis://h?sentinel_password=x", "sentinel_password is for Sentinels: redis+sentinel://"),
        ("sentinel://h/main", "no Redis URL"),
        ("redis+cluster://h/1", "a cluster has one database, 0"),
        ("redis+cluster://h,,k", "no Redis URL"),
        ("redis+cluster://h?sentinel_password=x", "is for Sentinels"),
    ],
)
def test_what_nobody_would_obey_is_refused(url: str, why: str):
    with pytest.raises(ConfigurationError) as caught:
        parse_redis_url(url)
    assert why in str(caught.value)


def test_mistake_shows_where_it_was_made(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigurationError, match=r"redis_url: .*ssl_ca_cert"):
        App("rediss://h?ssl_ca_cert=x")
    with pytest.raises(ConfigurationError, match=r"redis_url: .*a number"):
        Client("redis://h/prod")
    monkeypatch.setenv("REDIS_URL", "redis://h?nobody=1")
    with pytest.raises(ConfigurationError, match="nobody"):
        Client()


def test_no_password_is_shown():
    for url in (
        "rediss://me:secret1@h?ssl_password=secret2&ssl_certfile=c",
        "rediss://h?username=me&password=secret1&ssl_password=secret2&ssl_certfile=c",
    ):
        assert "secret" not in repr(parse_redis_url(url))
        with pytest.raises(ConfigurationError) as caught:
            parse_redis_url(f"{url}&what=1")
        assert "secret" not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        parse_redis_url("redis://h?password=")
    assert "password can't be" in str(caught.value)


def what_is_said_of(url: str) -> str:
    try:
        return repr(parse_redis_url(url))
    except ConfigurationError as error:
        return str(error)


@pytest.mark.parametrize(
    "form",
    [
        "redis://h?{}={}",
        "redis://h?db=1;{}={}",
        "redis://h;{}={}",
        "redis://h?x=1&{}={}&db=-1",
        "redis+sentinel://h?{}={}",
        "unix:///s#?{}={}",
    ],
)
@pytest.mark.parametrize(
    "name", ["Password", "passwd", "pass%77ord", "auth", "sentinel_Password", "username", "ssl_passwd"]
)
def test_nothing_that_may_be_a_secret_is_shown_however_it_is_misspelt(form: str, name: str):
    url = form.format(name, "hunter2")
    assert "hunter2" not in shown_url(url)
    assert "hunter2" not in what_is_said_of(url)


@pytest.mark.parametrize("form", ["{}@h", "redis:{}@h", "redis:/{}@h", "redis//{}@h", "http://{}@h", "redis://{}@h:0"])
def test_no_login_is_shown_of_what_is_no_url(form: str):
    url = form.format("hunter1:hunter2")
    with pytest.raises(ConfigurationError) as caught:
        parse_redis_url(url)
    assert "hunter" not in str(caught.value) + shown_url(url)


def test_line_end_after_it_is_no_part_of_it():
    assert parse_redis_url("redis://u:p@h\r\n") == parse_redis_url("redis://u:p@h")


SAFE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(
    SAFE, SAFE, st.sampled_from(["redis://{}@h", "redis+sentinel://{}@h,k/m", "redis+cluster://{}@h,k", "unix://{}@/s"])
)
def test_any_login_that_is_quoted_comes_through(user: str, password: str, form: str):
    found = parse_redis_url(form.format(f"{quote(user, safe='')}:{quote(password, safe='')}"))
    assert (found.username, found.password) == (user, password)
    asked = parse_redis_url(form.replace("{}@", "") + f"?username={quote_plus(user)}&password={quote_plus(password)}")
    assert (asked.username, asked.password) == (user, password)


@given(st.text())
def test_any_text_is_a_url_or_refused(text: str):
    for url in (
        text,
        f"redis://{text}",
        f"rediss://h?{text}",
        f"unix://{text}",
        f"redis+sentinel://{text}",
        f"redis+cluster://{text}",
        f"redis+sentinel://h,{text}/x",
    ):
        try:
            found = parse_redis_url(url)
        except ConfigurationError:
            continue
        assert attrs.asdict(found)
