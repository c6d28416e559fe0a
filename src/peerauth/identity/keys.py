"""Keys of identities: which are accepted, what they sign with, how they are written.

P-256 is what peerauth makes; P-384 and RSA from 2048 bits are accepted from others, because plugged-in authorities
and Istio's own agents use them. Everything else is refused by name: Ed25519 because Envoy's TLS does not offer it for
certificates, P-521 and short RSA because peers refuse them. Nothing here makes keys (that takes randomness), writes to
disk or logs.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

# What keys are made on, by whoever is going to use them: this package makes none.
CURVE = ec.SECP256R1()

RSA_MIN_BITS = 2048
# A verification with a longer key costs the authority more than the caller paid to ask for it.
RSA_MAX_BITS = 8192
# Smaller exponents are legal, weaken PKCS#1 v1.5, and are made by no one any more.
RSA_MIN_EXPONENT = 65537
RSA_MAX_EXPONENT = 2**33 - 1
ACCEPTED_KEYS = f"ECDSA P-256, ECDSA P-384 or RSA of {RSA_MIN_BITS} to {RSA_MAX_BITS} bits"


def key_flaw(key: object) -> str:
    """Why a public key is not accepted, or an empty string if it is."""
    match key:
        case ec.EllipticCurvePublicKey():
            if isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
                return ""
            return f"key on curve {key.curve.name}; accepted are {ACCEPTED_KEYS}"
        case rsa.RSAPublicKey():
            if not RSA_MIN_BITS <= key.key_size <= RSA_MAX_BITS:
                return f"RSA key of {key.key_size} bits; accepted are {ACCEPTED_KEYS}"
            if not RSA_MIN_EXPONENT <= key.public_numbers().e <= RSA_MAX_EXPONENT:
                return f"RSA key with public exponent {key.public_numbers().e}; 65537 is accepted"
            return ""
        case _:
            kind = type(key).__name__.removesuffix("PublicKey")
            return f"{kind} key; accepted are {ACCEPTED_KEYS}"


def signature_hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """The hash that a key signs with: as strong as the key, never weaker than SHA-256."""
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1):
        return hashes.SHA384()
    return hashes.SHA256()


def private_key_pem(key: PrivateKey) -> bytes:
    """PKCS#8 PEM, not encrypted: for a file of mode 0600 or for the proxy that owns the key, nothing else."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
