"""The certificate authority: who may ask for what, where its keys lie, and the answer to one request.

Knows no network and no proxy: whoever authenticates callers passes the caller's identity in.
"""
