"""Caches: the policies `hot`, `content` and `listings`, each a plugin of its own.

```
hot        small objects in memory
content    objects on disk, for all processes of a machine
listings   what a storage says is there
objects    what hot and content share: reading by snapshots of one version
layer      a filesystem around another · asynchronous: with coroutines · delegation
file       open files · stream: with coroutines · snapshot: the bytes of one version
changes    what was written through this process · flights: one fetch for all who wait
store      the directory · entry: a file in it · locks: who fills one · usage: its size
known      what listings know · answers: how it is remembered
telling    events, and what is said once
commands   `connectorkit cache`
```

A cache is a filesystem around the connector's own. What is written through it, or
through another filesystem of this process that has the same connector type and settings
and a caching policy, is seen by the next call. What others write is seen as each policy
says. What it keeps belongs to one connector type and its settings, credentials
included: nothing crosses from one tenant to another.
"""
