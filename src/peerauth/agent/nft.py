"""The nftables ruleset that captures a workload's TCP: a pure function to text.

Inbound TCP goes to 15006 (HBONE's 15008 is left alone), outbound TCP to 15001 unless the proxy sent it (packet mark
0x539). UDP and loopback are untouched. A second, independent chain drops whatever TCP arrives for a port that is not
the proxy's: without the redirection a port is closed, not open. The ports and the mark are Istio's; its exception for
node-local health probes is left out on purpose, being a plaintext way around STRICT.
"""

from __future__ import annotations

TABLE = "inet peerauth"
INBOUND_PORT = 15006
OUTBOUND_PORT = 15001
HBONE_PORT = 15008
PROXY_MARK = 0x539
"""On the proxy's connections: they pass, to other workloads and to the application."""
CALL_MARK = 0x53A
"""On a sidecar's outbound connections, if it wants calls that end at its own workload to come in through 15006."""
MARK_MASK = 0xFFF


def ruleset() -> str:
    """The rules for `nft -f -`, replacing an earlier version of themselves in one transaction.

    On the loopback an application that calls its own address reaches itself. A sidecar that does so for the
    application, having load-balanced to its own workload, speaks mutual TLS, which only the sidecar's inbound side
    understands: connections with CALL_MARK are therefore taken back in.
    """
    own_call = f'oifname "lo" meta mark & {MARK_MASK:#x} == {CALL_MARK:#x}'
    back_in = f"tcp dport != {HBONE_PORT} redirect to :{INBOUND_PORT}"
    return f"""\
table {TABLE} {{}}
delete table {TABLE}
table {TABLE} {{
    chain inbound {{
        type nat hook prerouting priority dstnat; policy accept;
        iifname != "lo" meta l4proto tcp tcp dport != {HBONE_PORT} redirect to :{INBOUND_PORT}
    }}
    chain outbound {{
        type nat hook output priority -100; policy accept;
        {own_call} ip daddr != 127.0.0.0/8 {back_in}
        {own_call} ip6 daddr != ::1 {back_in}
        oifname "lo" accept
        meta mark & {MARK_MASK:#x} {{ {PROXY_MARK:#x}, {CALL_MARK:#x} }} accept
        meta l4proto tcp redirect to :{OUTBOUND_PORT}
    }}
    chain guard {{
        type filter hook input priority filter; policy accept;
        iifname "lo" accept
        meta l4proto != tcp accept
        tcp dport {{ {INBOUND_PORT}, {HBONE_PORT} }} accept
        ct direction reply accept
        drop
    }}
}}
"""


def removal() -> str:
    """The text that removes the rules, whether they are there or not."""
    return f"table {TABLE} {{}}\ndelete table {TABLE}\n"
