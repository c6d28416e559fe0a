"""The only validator: from plain JSON values, wherever they were read, to the objects of the model.

`check` takes one document and says what is in it, every fault with its place. Readers of files and of clusters hand in
dict, list, str, int, float, bool and None, and a `Place` that knows where each value stands. PeerAuthentication is held
to its CRD exactly, and unknown fields of it are faults; of other kinds only what concerns the mesh is read, and only a
wrong type or value in that is a fault. Pure: no I/O, no clock.
"""

from peerauth.model.schema.faults import ALL_FAULTS, Fault
from peerauth.model.schema.kinds import DEFAULT_NAMESPACE, Checked, check, check_item, outline_of
from peerauth.model.schema.place import Embedded, FixedPlace, Path, Place, path_text

__all__ = [
    "ALL_FAULTS",
    "DEFAULT_NAMESPACE",
    "Checked",
    "Embedded",
    "Fault",
    "FixedPlace",
    "Path",
    "Place",
    "check",
    "check_item",
    "outline_of",
    "path_text",
]
