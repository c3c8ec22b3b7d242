"""What docs/dashboard.md takes for granted."""

from trioworkers import App, web

app = App()


def check(names, server):
    assert [route.path for route in names["api"].routes if route.app is names["dashboard"]] == ["/jobs"]
    assert names["may"]({"session": {"user": "ada"}}) == web.Visitor("write", "ada")
    assert names["may"]({}) is None
    shown = names["redact"]({"class": "PayrollJob", "args": [1000], "error_message": "1000", "jid": "1"})
    assert shown == {"class": "PayrollJob", "args": ["…"], "error_message": "…", "jid": "1"}
    assert names["redact"]({"class": "Other", "args": [1]}) == {"class": "Other", "args": [1]}
