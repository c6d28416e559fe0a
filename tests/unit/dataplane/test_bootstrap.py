"""What an Envoy is started with."""

from __future__ import annotations

import json
from typing import Any

from peerauth.dataplane.envoy.bootstrap import Sockets, bootstrap

SOCKETS = Sockets(admin="/run/a/admin", xds="/run/a/xds", sds="/run/a/sds")


def made() -> dict[str, Any]:
    text = bootstrap("sidecar~foo.finance", cluster="foo", sockets=SOCKETS, metadata=(("NAMESPACE", "foo"),))
    found: dict[str, Any] = json.loads(text)
    return found


def test_nothing_of_it_is_reachable_over_the_network() -> None:
    assert "socket_address" not in json.dumps(made())
    assert "listeners" not in made()["static_resources"]


def test_the_node_says_who_it_is() -> None:
    node = made()["node"]
    assert (node["id"], node["cluster"], node["metadata"]) == ("sidecar~foo.finance", "foo", {"NAMESPACE": "foo"})


def test_it_waits_for_its_configuration_however_long_that_takes() -> None:
    dynamic = made()["dynamic_resources"]
    for source in (dynamic["lds_config"], dynamic["cds_config"]):
        assert source["initial_fetch_timeout"] == "0s"


def test_acknowledgements_do_not_repeat_the_node() -> None:
    assert made()["dynamic_resources"]["ads_config"]["set_node_on_first_message_only"] is True


def test_equal_arguments_give_equal_text() -> None:
    one, other = (
        bootstrap("n", cluster="c", sockets=SOCKETS, metadata=pairs)
        for pairs in ((("A", "1"), ("B", "2")), (("B", "2"), ("A", "1")))
    )
    assert one == other
