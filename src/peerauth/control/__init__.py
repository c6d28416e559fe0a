"""The control plane: from a mesh's steps to what proxies are told and have answered. It knows no machine."""
