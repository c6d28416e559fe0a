"""From decisions to what a data plane is told: pure renderers, values in, bytes out.

Nothing here knows precedence: a renderer takes an `EffectiveMode`. Equal input gives equal bytes.
"""
