"""State: what functions and operators keep between records.

``descriptors`` and ``states`` are what functions see, ``backend`` is the interface of keyed state and
``heap`` its implementation in memory, ``operator_state`` is state that belongs to no key, ``keys`` says which
key group a key is in.
"""
